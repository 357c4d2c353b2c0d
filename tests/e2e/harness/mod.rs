//! What all tests share: programs that end with their test, the server's console, raw clients, terminals.

mod attack;
mod certificates;
mod console;
mod conversation;
mod haproxy;
mod net;
mod proc;
mod process;
mod pty;
mod relay;
mod room;
mod server;
mod transport;

pub(crate) use attack::Attack;
pub(crate) use certificates::Certificates;
pub(crate) use console::{Lines, first_line, message, messages, parse_time, start_line_port, stop_line_port, unescape};
pub(crate) use conversation::Pair;
pub(crate) use haproxy::HaProxy;
pub(crate) use net::{
    accept_in_time, assert_same, connect, connect_from, exchange, expect_end, has_ipv6, hesitant, listener,
    random_bytes, reset, rng, round_trip, wait_for_input,
};
pub(crate) use proc::{cpu_time, descriptor_flags, is_listening, is_suspended, memory, soft_and_hard_descriptors};
pub(crate) use process::{DEADLINE, Output, Process, clean_command, feed, has, has_if, run, scratch_file};
pub(crate) use pty::Pty;
pub(crate) use room::{Member, shown};
pub(crate) use server::{LIMITED, Server, client, free_port, server_command, server_command_under};
pub(crate) use transport::{client_name, expect_loss, is_tls, is_unix, needs_tcp, server_name, skipped_over_tls};
