//! What `GET /metrics` answers, in the text format of OpenMetrics. The manual page explains each metric.
//!
//! What the server counts anyway is copied when it is asked for; only the histograms of the turns are kept up to date.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::console::Counters;
use crate::event::RedisState;

/// The upper bounds of the buckets for the time of a turn, in seconds.
const TURN_SECONDS: [f64; 11] = [0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0];

/// The same for the events of a turn. One wait brings at most 1,024 of them.
const TURN_EVENTS: [f64; 7] = [0.0, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0];

/// What the turns of the server cost.
#[derive(Debug)]
pub(super) struct Turns {
    seconds: Histogram,
    events: Histogram,
}

/// What there is to tell beside the turns.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) counters: Counters,
    /// How many connections were refused, by the reason.
    pub(super) refused: Vec<(&'static str, u64)>,
    /// How many members this server's room has, and how many of them wait for slower ones; `None` without a room.
    pub(super) members: Option<(usize, usize)>,
    /// How many TLS handshakes were done, and how many failed; `None` without TLS.
    pub(super) handshakes: Option<(u64, u64)>,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { seconds: Histogram::new(TURN_SECONDS), events: Histogram::new(TURN_EVENTS) }
    }

    /// A turn took this long, from the end of one wait to the beginning of the next, and the wait before it brought so
    /// many `events`.
    pub(super) fn observe(&self, took: Duration, events: usize) {
        self.seconds.observe(took.as_secs_f64());
        self.events.observe(events as f64);
    }

    /// All metrics as text.
    pub(super) fn describe(&self, snapshot: &Snapshot) -> String {
        let Snapshot { counters, refused, members, handshakes } = snapshot;
        let mut registry = Registry::with_prefix("echo");
        connections(&mut registry, counters, refused);
        traffic(&mut registry, counters);
        registry.register_with_unit("turn", "Time of a turn", Unit::Seconds, self.seconds.clone());
        registry.register("turn_events", "Events in a turn", self.events.clone());
        if let Some((members, waiting)) = *members {
            registry.register("room_members", "Members of the room on this server", gauge(members as u64));
            registry.register("room_waiting_talkers", "Members that wait for slower ones", gauge(waiting as u64));
        }
        if let Some((done, failed)) = *handshakes {
            registry.register("tls_handshakes", "TLS handshakes that were done", ConstCounter::new(done));
            registry.register("tls_handshake_failures", "TLS handshakes that failed", ConstCounter::new(failed));
        }
        if let Some(redis) = &counters.redis {
            let is_connected = redis.state == RedisState::Connected;
            registry.register("redis_connected", "Whether Redis is in reach", gauge(u64::from(is_connected)));
            registry.register("redis_lag_entries", "Entries of the log not delivered yet", gauge(redis.lag));
        }
        let mut text = String::new();
        // Writing to a string does not fail.
        _ = encode(&mut text, &registry);
        text
    }
}

fn connections(registry: &mut Registry, counters: &Counters, refused: &[(&'static str, u64)]) {
    registry.register("connections_open", "Open connections", gauge(counters.connections as u64));
    let accepted = ConstCounter::new(counters.connections_total);
    registry.register("connections_accepted", "Connections that were accepted", accepted);
    let reasons = Family::<[(&str, &str); 1], Counter>::default();
    for (reason, count) in refused {
        reasons.get_or_create(&[("reason", *reason)]).inc_by(*count);
    }
    registry.register("connections_refused", "Connections that were refused, by reason", reasons);
}

fn traffic(registry: &mut Registry, counters: &Counters) {
    let mut count = |name: &str, help: &str, unit, value| match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, ConstCounter::new(value)),
        None => registry.register(name, help, ConstCounter::new(value)),
    };
    count("messages", "Messages that were echoed, or lines said in the room", None, counters.messages);
    count("received", "Bytes received from clients", Some(Unit::Bytes), counters.bytes_in);
    count("sent", "Bytes written to sockets of clients", Some(Unit::Bytes), counters.bytes_out);
    count("log_lines_dropped", "Log lines that were dropped", None, counters.lines_dropped);
    let held = gauge(counters.bytes_held as u64);
    registry.register_with_unit("held", "Memory held for clients", Unit::Bytes, held);
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::RedisCounters;

    #[test]
    fn the_manual_explains_each_metric() {
        let redis = RedisCounters { state: RedisState::Away, epoch: String::new(), position: 3, lag: 2 };
        let counters = Counters { redis: Some(redis), ..Counters::default() };
        let refused = vec![("address", 1), ("header", 2), ("full", 3)];
        let snapshot = Snapshot { counters, refused, members: Some((2, 1)), handshakes: Some((4, 5)) };
        let text = Turns::new().describe(&snapshot);
        println!("{text}");
        let manual = include_str!("../cli/print/echo-server.roff");
        let explained: Vec<&str> =
            manual.split([' ', '\n', ',', '"']).filter(|word| word.starts_with("echo_")).collect();
        let mut metrics = Vec::new();
        for line in text.lines() {
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                metrics.push(if kind == "counter" { format!("{name}_total") } else { name.to_owned() });
            }
        }
        assert_eq!(metrics.len(), 16);
        assert_eq!(explained.len(), metrics.len());
        assert!(metrics.iter().all(|metric| explained.contains(&&**metric)), "{metrics:?} {explained:?}");
        assert!(text.ends_with("\n# EOF\n"));
    }
}
