//! `validate`: what is wrong with policies, where, and what to do; and what cannot work although it is no fault.
//! No server is asked.

mod doubts;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sluice_wire::policy::{Places, PolicyFault};

use crate::cli::{Exit, ValidateArgs};
use crate::policy_files::{self, MOST_FILES};
use crate::shared_targets::SharedTargets;

use super::{Failure, Screen, plan};

pub fn perform(args: &ValidateArgs, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut report = Report::default();
    let mut known = Known::default();
    for path in files(&args.files)? {
        check(&path, &mut known, &mut report)?;
    }
    known.warn_of_shared_targets(&mut report);
    let well = report.faults.is_empty() && (report.warnings.is_empty() || !args.strict);
    tell(&Report { valid: well, ..report }, screen)?;
    Ok(if well { Exit::Well } else { Exit::WrongUse })
}

#[derive(Debug, Default, Serialize)]
struct Report {
    valid: bool,
    policies: usize,
    faults: Vec<Finding>,
    warnings: Vec<Finding>,
    /// What a policy's `strategy` came to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    implied: Vec<Finding>,
    /// What holds, and is good to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Finding>,
}

/// Something at a place. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Finding {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What is wrong, and what to do.
    message: String,
}

/// What the files before have said.
#[derive(Default)]
struct Known {
    /// Each policy's file.
    names: BTreeMap<String, String>,
    targets: SharedTargets<String>,
    /// Where each policy says what it writes.
    places: BTreeMap<String, Finding>,
}

impl Known {
    /// Two policies that write one object are both told of.
    fn warn_of_shared_targets(self, report: &mut Report) {
        let told = self.targets.shared().filter_map(|name| {
            let message = self.targets.warning(name, |other| format!("policy {other}"))?;
            Some(Finding { message, ..self.places.get(name)?.clone() })
        });
        report.warnings.extend(told);
    }
}

fn check(path: &Path, known: &mut Known, report: &mut Report) -> Result<(), Failure> {
    let (file, bytes) = read(path)?;
    let policy = match policy_files::parse(&file, &bytes) {
        Ok(policy) => policy,
        Err(faults) => {
            report.faults.extend(faults.iter().cloned().map(Finding::from));
            return Ok(());
        }
    };
    report.policies += 1;
    let places = Places::of(&bytes);
    let name = format!("{}/{}", policy.metadata.namespace, policy.metadata.name);
    known.targets.put(name.clone(), &policy, None);
    known.places.insert(name.clone(), placed(&file, "spec.target", String::new(), &places));
    if let Some(other) = known.names.insert(name.clone(), file.clone()) {
        let why = format!("{name} stands in {other} too: give one of them another name");
        report.faults.push(placed(&file, "metadata.name", why, &places));
    }
    let implied = policy.spec.implied();
    report.implied.extend(implied.map(|words| placed(&file, "spec.strategy", words, &places)));
    let note = plan::pods(&policy).map(|note| placed(&file, "spec.target.replicas", note, &places));
    report.notes.extend(note);
    let doubts = doubts::of(&policy).into_iter();
    report.warnings.extend(doubts.map(|(field, why)| placed(&file, &field, why, &places)));
    Ok(())
}

fn read(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let file = path.display().to_string();
    if file == "-" {
        let mut bytes = Vec::new();
        // One byte more than a policy may have, so that a larger one is seen as such.
        std::io::stdin().take(sluice_wire::cloudevent::MOST_BYTES as u64).read_to_end(&mut bytes)?;
        return Ok(("stdin".to_owned(), bytes));
    }
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::input(format!("{file}: {error}"), "name files or folders of policies"))?;
    Ok((file, bytes))
}

/// Folders become the policies in them, sorted.
fn files(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in given {
        let found = policy_files::list(path).map_err(|error| {
            Failure::input(format!("{}: {error}", path.display()), "is it there, and readable?")
        })?;
        if found.is_empty() {
            let error =
                format!("{}: no .yaml, .yml or .json file in this folder or those in it", path.display());
            return Err(Failure::input(error, "name files or folders of policies"));
        }
        files.extend(found);
    }
    files.truncate(MOST_FILES);
    Ok(files)
}

impl From<PolicyFault> for Finding {
    fn from(fault: PolicyFault) -> Finding {
        let PolicyFault { file, place, field, why } = fault;
        let (line, column) = place.unzip();
        Finding { file, line, column, field, message: why }
    }
}

fn placed(file: &str, field: &str, message: String, places: &Places) -> Finding {
    let place = places.of_field(field);
    Finding {
        file: file.to_owned(),
        line: place.map(|(line, _)| line),
        column: place.map(|(_, column)| column),
        field: Some(field.to_owned()),
        message,
    }
}

fn tell(report: &Report, screen: &mut Screen) -> std::io::Result<()> {
    if screen.json() {
        return screen.value(report);
    }
    report.faults.iter().try_for_each(|fault| screen.line(&words(fault, "")))?;
    report.warnings.iter().try_for_each(|warning| screen.line(&words(warning, "warning: ")))?;
    report.implied.iter().try_for_each(|implied| screen.line(&words(implied, "")))?;
    report.notes.iter().try_for_each(|note| screen.line(&words(note, "note: ")))?;
    let counted = [
        number(report.policies, "sound policy", "sound policies"),
        number(report.faults.len(), "fault", "faults"),
        number(report.warnings.len(), "warning", "warnings"),
    ];
    screen.line(&counted.join(", "))
}

fn number(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `file:line:column: field: what is wrong and what to do`
fn words(finding: &Finding, kind: &str) -> String {
    let place: String =
        [finding.line, finding.column].into_iter().flatten().map(|number| format!(":{number}")).collect();
    let field = finding.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    format!("{}{place}: {kind}{field}{}", finding.file, finding.message)
}
