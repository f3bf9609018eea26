//! Which of a rule's backends is a version of ours. Pure.

use serde_json::Value;

use super::weighted::Pattern;

/// One version as a router names it.
#[derive(Debug, Clone)]
pub(crate) struct Arm {
    /// For people: `backend checkout`.
    pub called: String,
    /// All of these hold for it.
    pub marks: Vec<Mark>,
}

/// What tells a backend.
#[derive(Debug, Clone)]
pub(crate) enum Mark {
    /// The field has this value.
    Field(Pattern, Value),
    /// One of the fields has this value.
    AnyField(&'static [Pattern], String),
    /// The field has this value or is not there.
    FieldOrAbsent(Pattern, &'static str),
    /// The field is this host: short, or in full with the cluster's domain, which may be any.
    Host(Pattern, String),
    /// The field is this host, perhaps with a scheme before it and a port behind it.
    Address(Pattern, String),
    /// The field is a reference to a pool that Avi has made for this Service.
    Pool(Pattern, String),
    /// The entry itself is called so.
    Key(String),
}

impl Arm {
    /// A backend known by the Service in one field.
    pub fn service(field: Pattern, name: &str) -> Arm {
        Arm { called: format!("backend {name}"), marks: vec![Mark::Field(field, name.into())] }
    }

    pub fn at_port(mut self, field: Pattern, port: Option<u16>) -> Arm {
        if let Some(port) = port {
            self.called = format!("{} at port {port}", self.called);
            self.marks.push(Mark::Field(field, port.into()));
        }
        self
    }

    /// `key`: the entry's own name, where entries have names.
    pub fn is(&self, key: &str, entry: &Value, namespace: &str) -> bool {
        self.marks.iter().all(|mark| mark.holds(key, entry, namespace))
    }

    /// A name in the entry that would be ours if it were written in another form: short, or in full.
    pub fn nearly(&self, entry: &Value) -> Option<String> {
        let label = |name: &str| name.split(['.', ':']).next().unwrap_or_default().to_owned();
        let (field, wanted) = self.marks.iter().find_map(Mark::name)?;
        let found = at(entry, field).as_str()?;
        (found != wanted && label(found) == label(wanted)).then(|| found.to_owned())
    }
}

impl Mark {
    fn holds(&self, key: &str, entry: &Value, namespace: &str) -> bool {
        match self {
            Mark::Field(field, value) => at(entry, field) == value,
            Mark::AnyField(fields, value) => fields.iter().any(|field| at(entry, field) == value),
            Mark::FieldOrAbsent(field, value) => at(entry, field).is_null() || at(entry, field) == value,
            Mark::Host(field, host) => {
                text(entry, field).is_some_and(|found| is_host(found, host, namespace))
            }
            Mark::Address(field, host) => {
                text(entry, field).is_some_and(|found| is_host(host_of(found), host, namespace))
            }
            Mark::Pool(field, service) => text(entry, field).is_some_and(|found| is_pool_of(found, service)),
            Mark::Key(name) => key == name,
        }
    }

    /// The field that names a Service, and the name wanted there.
    fn name(&self) -> Option<(Pattern, &str)> {
        match self {
            Mark::Field(field, Value::String(name)) => Some((field, name)),
            Mark::Host(field, host) | Mark::Address(field, host) => Some((field, host)),
            Mark::AnyField(fields, name) => Some((fields.last()?, name)),
            Mark::Field(..) | Mark::FieldOrAbsent(..) | Mark::Pool(..) | Mark::Key(_) => None,
        }
    }
}

fn at(entry: &Value, field: Pattern) -> &Value {
    field.iter().fold(entry, |value, token| &value[*token])
}

fn text(entry: &Value, field: Pattern) -> Option<&str> {
    at(entry, field).as_str()
}

/// A name without dots is a Service of the object's own namespace.
fn is_host(found: &str, wanted: &str, namespace: &str) -> bool {
    let is_full = |full: &str, short: &str| {
        !short.contains('.') && full.starts_with(&format!("{short}.{namespace}.svc."))
    };
    found == wanted || is_full(found, wanted) || is_full(wanted, found)
}

/// `https://checkout.shop:443` without scheme and port.
fn host_of(address: &str) -> &str {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    host.split([':', '/']).next().unwrap_or(host)
}

/// `/api/pool/?name=shop-a-pool-http-tcp`, or the pool's name alone: the Service's name, `-pool-`, then port and protocol.
fn is_pool_of(pool_ref: &str, service: &str) -> bool {
    let name = pool_ref.split_once("name=").map_or(pool_ref, |(_, name)| name);
    name.strip_prefix(service).is_some_and(|rest| rest.starts_with("-pool-") || rest == "-pool")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_known_short_in_full_and_within_addresses() {
        let table = [
            ("shop", "shop", true),
            ("shop", "shop.store.svc.cluster.local", true),
            ("shop.store.svc.example", "shop", true),
            ("shop.other.svc.cluster.local", "shop", false),
            ("shop-canary", "shop", false),
        ];
        for (found, wanted, expected) in table {
            assert_eq!(is_host(found, wanted, "store"), expected, "{found} for {wanted}");
        }
        for address in ["shop", "shop:80", "https://shop:443", "http://shop/path"] {
            assert_eq!(host_of(address), "shop");
        }
    }

    #[test]
    fn a_pool_belongs_to_the_service_whose_whole_name_it_begins_with() {
        let table = [
            ("/api/pool/?name=avisvcA-pool-http-tcp", "avisvcA", true),
            ("avisvcA-pool-http-tcp", "avisvcA", true),
            ("/api/pool/?name=avisvcA-2-pool-http-tcp", "avisvcA", false),
            ("/api/pool/?name=avisvcA-pool-http-tcp", "avisvc", false),
        ];
        for (pool_ref, service, expected) in table {
            assert_eq!(is_pool_of(pool_ref, service), expected, "{pool_ref} for {service}");
        }
    }
}
