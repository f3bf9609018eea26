//! What is wrong with a policy: file, line, field and remedy.

use std::fmt;

use super::{Place, Places};

/// One fault. `why` says what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFault {
    pub file: String,
    /// Line and column; nothing if the document is no text.
    pub place: Option<Place>,
    /// `spec.steps[1].weight`
    pub field: Option<String>,
    pub why: String,
}

impl PolicyFault {
    pub(super) fn at(file: &str, field: String, why: String, places: &Places) -> PolicyFault {
        PolicyFault { file: file.to_owned(), place: places.of_field(&field), field: Some(field), why }
    }
}

/// At least one fault, in the document's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFaults(Vec<PolicyFault>);

/// One document does not get a longer list than this.
const MOST_FAULTS: usize = 50;

impl PolicyFaults {
    /// `first` is there so that there is one.
    pub(super) fn new(first: PolicyFault, more: impl IntoIterator<Item = PolicyFault>) -> PolicyFaults {
        let mut faults: Vec<_> = std::iter::once(first).chain(more).collect();
        faults.sort_by_key(|fault| fault.place);
        let left_out = faults.len().saturating_sub(MOST_FAULTS);
        faults.truncate(MOST_FAULTS);
        if let Some(last) = faults.last_mut().filter(|_| left_out > 0) {
            last.why = format!("{} (and {left_out} faults more)", last.why);
        }
        PolicyFaults(faults)
    }

    /// Nothing if there are none.
    pub fn of(faults: Vec<PolicyFault>) -> Option<PolicyFaults> {
        let mut faults = faults.into_iter();
        faults.next().map(|first| PolicyFaults::new(first, faults))
    }

    /// Fields and what is wrong with them, at their places in the document; nothing if there are none.
    pub fn located(file: &str, wrong: Vec<(String, String)>, bytes: &[u8]) -> Option<PolicyFaults> {
        let places = if wrong.is_empty() { Places::default() } else { Places::of(bytes) };
        PolicyFaults::of(
            wrong.into_iter().map(|(field, why)| PolicyFault::at(file, field, why, &places)).collect(),
        )
    }

    pub fn iter(&self) -> impl Iterator<Item = &PolicyFault> {
        self.0.iter()
    }

    /// Without line and column: for a policy that came inside a message, where they say nothing.
    pub fn without_places(mut self) -> PolicyFaults {
        self.0.iter_mut().for_each(|fault| fault.place = None);
        self
    }
}

impl From<PolicyFault> for PolicyFaults {
    fn from(fault: PolicyFault) -> PolicyFaults {
        PolicyFaults(vec![fault])
    }
}

/// `file:line:column: field: why`
impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.why)
    }
}

/// One line a fault.
impl fmt::Display for PolicyFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.0.iter().enumerate() {
            let between = if number == 0 { "" } else { "\n" };
            write!(f, "{between}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyFaults {}
