//! A person's command on its way from one daemon to another. It goes below the daemons' own subject, with the person's name in
//! a header; on a person's own subject nobody but the person may publish. So a daemon's credential, if it is stolen, cannot
//! speak there, and whatever it says in a person's name is told as a daemon's word. A signature goes along as it is.

use sluice_bus::{Headers, MESSAGE_ID};
use sluice_wire::subject::{self, DAEMON};

/// On the daemons' own subject alone: whose command it is, escaped like a subject's token.
const ON_BEHALF_OF: &str = "Sluice-On-Behalf-Of";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    pub user: &'a str,
    /// A daemon says so; not NATS, nor the door here.
    pub passed_on: bool,
}

impl Who<'_> {
    /// At a door of this daemon, or on a subject of one's own.
    pub fn itself(user: &str) -> Who<'_> {
        Who { user, passed_on: false }
    }
}

/// Whose a command is that came on the subject of `user`: that user's, or whom a daemon names.
pub fn person(user: &str, headers: &Headers) -> Result<(String, bool), String> {
    if user != DAEMON {
        return Ok((user.to_owned(), false));
    }
    let named = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(ON_BEHALF_OF));
    let named = named.and_then(|(_, value)| subject::unescape(value).ok()).filter(|user| !user.is_empty());
    let named = named.ok_or_else(|| {
        format!("a command on the daemons' own subject needs the header {ON_BEHALF_OF}; a person's subject has the person's name")
    })?;
    Ok((named, true))
}

/// The daemons' own subject below a door, and the headers that say for whom. `id`: the person's own; two persons' may be alike,
/// and here they would be one message.
pub fn on_behalf_of(
    user: &str,
    door: &str,
    (namespace, name, action): (&str, &str, &str),
    id: &str,
) -> (String, Headers) {
    let (subject, user) = (subject::person(door, DAEMON, namespace, name, action), subject::escape(user));
    let id = format!("{user}.{id}");
    (subject, vec![(ON_BEHALF_OF.to_owned(), user), (MESSAGE_ID.to_owned(), id)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_speaks_for_somebody_else() {
        let place = ("shop", "checkout", "pause");
        let (subject, headers) = on_behalf_of("ann b", "sluice.request", place, "1");
        assert_eq!(subject, "sluice.request._daemon.shop.checkout.pause");
        assert_eq!(person(DAEMON, &headers), Ok(("ann b".to_owned(), true)));
        assert_eq!(person("eve", &headers), Ok(("eve".to_owned(), false)), "a person's header says nothing");
        assert!(person(DAEMON, &Headers::new()).unwrap_err().contains("Sluice-On-Behalf-Of"));
        assert_ne!(headers, on_behalf_of("bob", "sluice.request", place, "1").1, "ids of two persons");
    }
}
