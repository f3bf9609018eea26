//! A person adjusts the backends of an OpenShift Route by a message to the policy that names it, while none of its rollouts
//! runs. Under a rollout this would be drift, so it is refused; the rollout has commands of its own.

use sluice_traffic::openshift::{self, Backend, Change};
use sluice_wire::{
    message::Answer,
    policy::{Policy, Target},
    subject::ALL,
};

use super::{
    Daemon,
    authority::{self, Nonce},
    command::refused,
};

const ACTION: &str = "backends";

/// What a person asks, and who it is.
pub struct ByHand<'a> {
    pub user: &'a str,
    pub actor: &'a str,
    /// Recognises repeats.
    pub key: &'a str,
    pub change: &'a str,
    pub reason: &'a str,
}

impl Daemon {
    /// `nonce`: of a signed command.
    pub(super) async fn adjust_backends(
        &self,
        namespace: &str,
        name: &str,
        by: &ByHand<'_>,
        nonce: Option<&Nonce>,
    ) -> Answer {
        if namespace == ALL || name == ALL {
            return Answer::refused("refused: `backends` adjusts one policy's Route; name the policy");
        }
        let adjusting = async {
            let answer = match self.adjusted(namespace, name, by).await {
                Ok(message) => Answer { accepted: true, ..Answer::refused(message) },
                Err(refusal) => refusal,
            };
            let (user, actor, reason, message) = (by.user, by.actor, by.reason, &answer.message);
            tracing::info!(
                namespace,
                name,
                user,
                actor,
                reason,
                change = by.change,
                message,
                "backends by hand"
            );
            answer
        };
        authority::once(&self.parts.ledger, (namespace, name), nonce, ("", ACTION), adjusting).await
    }

    /// What stands there now, in words; or the refusal.
    async fn adjusted(&self, namespace: &str, name: &str, by: &ByHand<'_>) -> Result<String, Answer> {
        let policy = self
            .book
            .get(namespace, name)
            .ok_or_else(|| refused(format!("no policy {namespace}/{name}; {}", self.book.known())))?;
        if let Some(refusal) = self.barred(&policy, by.user, ACTION) {
            return Err(refusal);
        }
        let (place, route) = route(&policy).map_err(refused)?;
        let change: Change = by.change.parse().map_err(|error: openshift::AdjustmentError| refused(error))?;
        self.refuse_while_running(namespace, name).await?;
        let backends =
            openshift::connect_backends(place, route, &self.parts.clients).await.map_err(refused)?;
        let after = backends.change_once(&change, by.key).await.map_err(refused)?;
        // Not knowing the endpoints fails nothing: the weights stand.
        let endpoints = backends.endpoints(&after).await.unwrap_or_default();
        Ok(words(&format!("route {place}/{route}"), &after, &endpoints))
    }

    async fn refuse_while_running(&self, namespace: &str, name: &str) -> Result<(), Answer> {
        let saved = self
            .latest_saved(namespace, name)
            .await
            .map_err(|error| refused(format!("whether a rollout runs cannot be read just now: {error}")))?;
        let Some(running) = saved.filter(|saved| !saved.state.is_done()) else { return Ok(()) };
        let (id, owner) = (&running.state.id, &running.owner.daemon);
        Err(Answer {
            rollout: Some(id.clone()),
            revision: Some(running.state.revision),
            phase: Some(running.state.phase.name().to_owned()),
            weight: Some(running.state.weight),
            ..Answer::refused(format!(
                "refused: {id} is running (daemon {owner}) and has the Route in hand; ask it: `sluice set-weight {namespace}/{name} PERCENT`, or end it with `sluice abort {namespace}/{name}`"
            ))
        })
    }
}

/// Namespace and name of the policy's Route.
fn route(policy: &Policy) -> Result<(&str, &str), String> {
    let metadata = &policy.metadata;
    let Target::OpenShiftRoute(route) = &policy.spec.target else {
        return Err(format!(
            "the target of policy {}/{} is no OpenShift Route (target.openShiftRoute), and `backends` knows no other",
            metadata.namespace, metadata.name
        ));
    };
    Ok((route.namespace.as_deref().unwrap_or(&metadata.namespace), &route.name))
}

/// `route shop/checkout: checkout 85, checkout-canary 15`, and what its endpoints make another share of.
fn words(route: &str, backends: &[Backend], endpoints: &[u32]) -> String {
    let weights: Vec<String> =
        backends.iter().map(|backend| format!("{} {}", backend.name, backend.weight)).collect();
    let both: Vec<(u32, u32)> =
        backends.iter().zip(endpoints).map(|(backend, endpoints)| (backend.weight, *endpoints)).collect();
    let skews = backends.iter().enumerate().filter_map(|(at, backend)| {
        openshift::skew(&both, at).map(|skew| format!("; warning: {}: {skew}", backend.name))
    });
    format!("{route}: {}{}", weights.join(", "), skews.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_stands_there_and_what_the_endpoints_make_of_it() {
        let backend = |name: &str, weight| Backend { name: name.to_owned(), weight };
        let backends = [backend("a", 99), backend("b", 1)];
        assert_eq!(words("route shop/a", &backends, &[]), "route shop/a: a 99, b 1");
        let skewed = words("route shop/a", &backends, &[1, 10]);
        assert!(
            skewed.starts_with("route shop/a: a 99, b 1; warning: b: its weight says 1.00 %"),
            "{skewed}"
        );
    }
}
