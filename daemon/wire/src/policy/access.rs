//! `access:` who may command what. Beside it stand NATS permissions (or HTTP tokens), which say who is who.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everybody, or every action.
const ALL: &str = "*";
/// As subjects and paths name them.
pub const ACTIONS: [&str; 13] = [
    "promote",
    "promote-full",
    "pause",
    "resume",
    "abort",
    "retry",
    "skip",
    "set-weight",
    "extend",
    "backends",
    "undo",
    "triggers-on",
    "triggers-off",
];

/// One rule. A command is taken if one rule names its user and its action; without any rule everybody may do everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessRule {
    /// Names as the bus' subject or the token says them; "*" is everybody.
    pub users: Vec<String>,
    /// promote, promote-full, pause, resume, abort, retry, skip, set-weight, extend, backends, undo, triggers-on, triggers-off;
    /// "*" is all of them.
    pub actions: Vec<String>,
}

impl AccessRule {
    fn is_about(&self, user: &str) -> bool {
        self.users.iter().any(|name| name == user || name == ALL)
    }

    fn allows(&self, action: &str) -> bool {
        self.actions.iter().any(|name| name == action || name == ALL)
    }

    /// The field (below this entry) that is wrong, and the remedy.
    pub fn wrong(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        for (field, names) in [("users", &self.users), ("actions", &self.actions)] {
            if names.is_empty() {
                wrong.push((
                    field.to_owned(),
                    "names nobody and nothing: leave the rule out, or name some".to_owned(),
                ));
            }
        }
        for (index, action) in self.actions.iter().enumerate() {
            if action != ALL && !ACTIONS.contains(&action.as_str()) {
                let why =
                    format!("{action:?} is no action; there are: {}, and \"*\" for all", ACTIONS.join(", "));
                wrong.push((format!("actions[{index}]"), why));
            }
        }
        wrong
    }
}

/// Refusals say what the user may do.
pub fn check(rules: &[AccessRule], user: &str, action: &str) -> Result<(), String> {
    if rules.is_empty() || rules.iter().any(|rule| rule.is_about(user) && rule.allows(action)) {
        return Ok(());
    }
    let own = rules.iter().filter(|rule| rule.is_about(user));
    let may: Vec<&str> = own.flat_map(|rule| rule.actions.iter().map(String::as_str)).collect();
    let may = if may.is_empty() { "nothing".to_owned() } else { may.join(", ") };
    Err(format!("refused: the policy's access lets {user} do {may}, and not {action}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(yaml: &str) -> Vec<AccessRule> {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn a_command_needs_one_rule_that_names_its_user_and_its_action() {
        let rules = rules("[{users: [ann, bob], actions: ['*']}, {users: ['*'], actions: [abort, pause]}]");
        for (user, action, may) in [
            ("ann", "promote", true),
            ("eve", "abort", true),
            ("eve", "promote", false),
            ("", "promote", false),
        ] {
            assert_eq!(check(&rules, user, action).is_ok(), may, "{user} {action}");
        }
        let told = check(&rules, "eve", "promote").unwrap_err();
        assert_eq!(told, "refused: the policy's access lets eve do abort, pause, and not promote");
        assert_eq!(check(&[], "eve", "promote"), Ok(()), "no rule, no bar");
    }

    #[test]
    fn a_rule_that_can_never_hold_is_wrong() {
        let wrong =
            |yaml| rules(yaml).iter().flat_map(AccessRule::wrong).map(|(field, _)| field).collect::<Vec<_>>();
        assert_eq!(wrong("[{users: [ann], actions: [abort, '*']}]"), Vec::<String>::new());
        assert_eq!(wrong("[{users: [], actions: [kill]}]"), ["users", "actions[0]"]);
    }
}
