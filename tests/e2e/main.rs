//! The real programs, from outside: started as a user starts them, spoken to over real sockets, pipes and
//! terminals. A module a topic; `harness` holds what they share.
//!
//! No test uses a fixed port or waits for time to pass where it can wait for an event. Random content comes
//! from a printed seed, and `E2E_SEED` replays it.

mod access;
mod chat;
mod chat_arrivals;
mod chat_ends;
mod chat_hostile;
mod chat_limits;
mod chat_slow;
mod client;
mod client_failures;
mod client_room;
mod console;
mod container;
mod echo;
mod faults;
mod haproxy;
mod harness;
mod health;
mod inherited;
mod interop;
mod json;
mod limits;
mod listening;
mod log;
mod log_boundaries;
mod metrics;
mod picture;
mod print;
mod proxy;
mod proxy_admission;
mod readme;
mod session;
mod session_end;
mod session_linux;
mod session_person;
mod session_screen;
mod session_tmux;
mod stopping;
mod syscalls;
mod timeouts;
mod tls;
mod units;
mod unix;
mod urgent;
