//! What can be typed, and what it is taken for.

use clap::{CommandFactory, Parser};
use sluice_rollout::Action;
use sluice_wire::message::Command;

use super::{Aim, BusChoice, Cli, Verb};

fn parse(line: &str) -> Result<Cli, String> {
    Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
}

/// Whom a command is for, and its body.
fn command(line: &str) -> (Aim, Command) {
    let cli = parse(line).unwrap();
    let (which, command) = match &cli.verb {
        Verb::Promote(args) | Verb::Pause(args) | Verb::Abort(args) => (&args.which, args.command()),
        Verb::Skip(args) => (&args.which, args.command()),
        Verb::SetWeight(args) => (&args.which, args.command()),
        Verb::Extend(args) => (&args.which, args.command()),
        other => panic!("{other:?} is no override"),
    };
    (which.aim(&cli.global), command)
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_shows_an_example() {
    for verb in Cli::command().get_subcommands().filter(|verb| verb.get_name() != "help") {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let own = format!("sluice {}", verb.get_name());
        assert!(help.contains("Example") && help.contains(&own), "{} has no example", verb.get_name());
    }
}

#[test]
fn every_page_tells_the_exit_codes_and_no_option_that_means_nothing() {
    let mut command = super::command();
    for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        let (name, page) = (verb.get_name().to_owned(), verb.render_long_help().to_string());
        assert!(page.contains("Exit codes:\n  0  "), "{name}:\n{page}");
        let asks = name == "status" || name == "abort";
        for (option, concerned) in [
            ("--server", asks),
            ("--nats-creds-file", asks || matches!(name.as_str(), "init" | "run")),
            ("--output", !matches!(name.as_str(), "run" | "schema" | "completions" | "man")),
        ] {
            let sure = asks
                || matches!(
                    name.as_str(),
                    "run" | "init" | "demo" | "validate" | "judge" | "plan" | "schema" | "man"
                );
            assert!(!sure || page.contains(option) == concerned, "{name} {option}:\n{page}");
        }
    }
    let mut command = super::command();
    let judge = command.find_subcommand_mut("judge").unwrap().render_long_help().to_string();
    assert!(judge.contains("\"arm\":\"canary\"") && judge.contains("1  abort"), "{judge}");
}

#[test]
fn the_windows_that_help_shows_can_be_read() {
    let mut command = super::command();
    let page = command.find_subcommand_mut("judge").unwrap().render_long_help().to_string();
    let line = page.lines().find(|line| line.trim_start().starts_with("{\"at\"")).unwrap();
    serde_json::from_str::<sluice_wire::windows::WindowLine>(line.trim()).unwrap();
}

#[test]
fn rollouts_are_named_in_three_ways() {
    for (line, aim) in [
        ("sluice abort checkout", "default/checkout"),
        ("sluice abort checkout -n shop", "shop/checkout"),
        ("sluice abort shop/checkout -n other", "shop/checkout"),
        ("sluice abort shop/checkout@v2-1", "shop/checkout@v2-1"),
        ("sluice abort --all", "_all/_all"),
        ("sluice abort --all -n shop", "shop/_all"),
    ] {
        assert_eq!(command(line).0.to_string(), aim, "{line}");
    }
}

#[test]
fn a_named_attempt_goes_into_the_body() {
    let (_, body) = command("sluice abort shop/checkout@v2-1 --reason bad --revision 7 --id x1");
    assert_eq!(
        (body.attempt.as_deref(), body.reason.as_str(), body.revision),
        (Some("v2-1"), "bad", Some(7))
    );
    assert_eq!(body.id.as_deref(), Some("x1"));
}

#[test]
fn labels_narrow_all() {
    let (_, body) = command("sluice pause --all -l team=payments,tier=1");
    assert_eq!(
        body.selector.into_iter().collect::<Vec<_>>(),
        [("team".into(), "payments".into()), ("tier".into(), "1".into())]
    );
}

#[test]
fn weights_spans_and_steps_reach_the_action() {
    let (_, body) = command("sluice set-weight checkout 2.5%");
    assert!(
        matches!(body.action("set-weight"), Ok(Action::SetWeight { weight, .. }) if weight.hundredths() == 250)
    );
    let (aim, body) = command("sluice set-weight --all 5");
    assert!(aim.name == "_all" && body.weight.is_some_and(|weight| weight.hundredths() == 500));
    let (_, body) = command("sluice extend checkout 1h30m");
    assert!(matches!(body.action("extend"), Ok(Action::Extend { by }) if by.as_secs() == 5400));
    let (_, body) = command("sluice skip checkout --to 4");
    assert_eq!(body.action("skip"), Ok(Action::Skip { to: Some(4) }));
}

#[test]
fn wrong_use_is_refused_with_what_would_be_right() {
    for (line, told) in [
        ("sluice abort", "<ROLLOUT|--all>"),
        ("sluice abort checkout --all", "cannot be used with"),
        ("sluice abort Check*out", "lower-case letters"),
        ("sluice abort checkout -l team=x", "cannot be used with"),
        ("sluice pause --all -l team", "key=value"),
        ("sluice set-weight checkout 101", "0 to 100"),
        ("sluice set-weight checkout 0.001", "two decimals"),
        ("sluice extend checkout soon", "30s, 10m"),
        ("sluice status checkout --timeout 5", "30s, 10m"),
        ("sluice demo --step 1h", "500ms to 10s"),
        ("sluice explode", "unrecognized"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.contains(told), "{line}: {error}");
    }
}

#[test]
fn a_version_of_a_release_is_not_our_own() {
    let Verb::Start(args) = parse("sluice start checkout --version v2 --wait --timeout 1h").unwrap().verb
    else {
        panic!()
    };
    assert!(args.release.as_deref() == Some("v2") && args.wait);
}

#[test]
fn run_takes_nats_as_soon_as_a_server_is_named() {
    let resolve = |line: &str| {
        let cli = parse(line)?;
        let Verb::Run(args) = cli.verb else { panic!("not run") };
        args.resolve(&cli.global)
    };
    assert!(matches!(resolve("sluice run").unwrap().bus, BusChoice::Embedded { data: Some(_) }));
    let named = resolve("sluice run --nats nats://a:4222,nats://b:4222").unwrap();
    assert!(matches!(named.bus, BusChoice::Nats(access) if access.servers.len() == 2));
    assert!(resolve("sluice run --bus nats").unwrap_err().contains("nats://"));
    assert!(resolve("sluice run --bus embedded --nats nats://a").unwrap_err().contains("exclude"));
}

#[test]
fn secrets_are_named_by_file_only() {
    for line in ["sluice status --token secret", "sluice status --nats-password x --nats nats://a"] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert!(
        parse("sluice status --nats nats://a --nats-user ann").unwrap_err().contains("--nats-password-file")
    );
}
