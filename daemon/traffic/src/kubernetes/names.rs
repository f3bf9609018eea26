//! Names of objects and backends as a policy writes them, checked before the cluster is asked.

use crate::Unfit;

/// The object's name and namespace, and the two backends, which are different ones. `kind` is the block's field.
pub(crate) fn check(kind: &str, name: &str, namespace: Option<&str>, arms: (&str, &str)) -> Vec<Unfit> {
    let mut unfit = object(kind, name, namespace);
    let (stable, canary) = arms;
    for (field, name) in [("stable", stable), ("canary", canary)] {
        unfit.extend(refusal(name).map(|why| Unfit::new(&format!("{kind}.{field}"), why)));
    }
    if stable == canary {
        let why = format!("{canary:?} is stable too: name the two backends that share the traffic");
        unfit.push(Unfit::new(&format!("{kind}.canary"), why));
    }
    unfit
}

pub(crate) fn object(kind: &str, name: &str, namespace: Option<&str>) -> Vec<Unfit> {
    let given = [("name", Some(name)), ("namespace", namespace)];
    let refused =
        |(field, name): (&str, Option<&str>)| Some(Unfit::new(&format!("{kind}.{field}"), refusal(name?)?));
    given.into_iter().filter_map(refused).collect()
}

/// An RFC 1123 subdomain, as Kubernetes names its objects.
fn refusal(name: &str) -> Option<String> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_name =
        name.len() <= 253 && name.chars().all(fine) && ends(name.chars().next()) && ends(name.chars().last());
    (!is_name)
        .then(|| format!("{name:?} is no name in Kubernetes: write lower-case letters, digits, '-' and '.'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_object_can_have_are_refused_with_their_field() {
        let fields = |unfit: Vec<Unfit>| unfit.into_iter().map(|unfit| unfit.field).collect::<Vec<_>>();
        assert_eq!(fields(check("httpRoute", "checkout", None, ("a", "b.shop.svc"))), Vec::<String>::new());
        for (name, stable, canary, field) in [
            ("../x", "a", "b", "spec.target.httpRoute.name"),
            ("", "a", "b", "spec.target.httpRoute.name"),
            ("x", "A", "b", "spec.target.httpRoute.stable"),
            ("x", "a", "a", "spec.target.httpRoute.canary"),
        ] {
            assert_eq!(fields(check("httpRoute", name, None, (stable, canary))), [field], "{name:?}");
        }
    }
}
