//! What was said before a server entered.

use std::collections::HashMap;

use crate::shared_log::entry::{parse_server, unpack};
use crate::shared_log::resp::Reply;
use crate::shared_log::{Change, MemberId, MemberRecord, ServerId};

/// What members said in these entries, which come from the newest to the oldest, each as server, batch and changes. A member
/// has the name that the entries give it before the line, or else the one that it has now. Lines of members that have left
/// and whose names are not known are not told, and neither is anything up to a line that was heard before: there is one
/// order.
pub(super) fn said(
    entries: &[Reply<'_>],
    records: &[MemberRecord],
    mut note_batch: impl FnMut(ServerId, &[u8]) -> bool,
) -> Vec<(String, Vec<u8>)> {
    let mut names: HashMap<MemberId, String> =
        records.iter().map(|record| (record.member, record.name.clone())).collect();
    let mut lines = Vec::new();
    for entry in entries.chunks_exact(3).rev() {
        let Some(server) = entry[0].text().and_then(parse_server) else { continue };
        let was_heard = note_batch(server, entry[1].text().unwrap_or_default());
        for change in unpack(entry[2].text().unwrap_or_default(), server).0 {
            match change {
                Change::Joined { member, name } | Change::Renamed { member, name } => _ = names.insert(member, name),
                Change::Entered { members, .. } => {
                    names.extend(members.into_iter().map(|record| (record.member, record.name)));
                }
                Change::Said { .. } if was_heard => lines.clear(),
                Change::Said { member, text } => {
                    lines.extend(names.get(&member).map(|name| (name.clone(), text)));
                }
                _ => {}
            }
        }
    }
    lines
}
