//! What the service manager, such as systemd, is told (sd_notify(3)).

use sd_notify::NotifyState;

/// The service manager of this process, if it has one and it is to be told.
#[derive(Debug, Default)]
pub(super) struct Manager {
    pub(super) is_told: bool,
}

impl Manager {
    /// The server listens.
    pub(super) fn ready(&self) {
        self.tell(NotifyState::Ready);
    }

    /// The server has begun to stop.
    pub(super) fn stopping(&self) {
        self.tell(NotifyState::Stopping);
    }

    fn tell(&self, state: NotifyState<'_>) {
        if self.is_told {
            // The manual recommends to ignore whether anybody hears it.
            _ = sd_notify::notify(&[state]);
        }
    }
}
