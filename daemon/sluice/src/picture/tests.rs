//! Pictures as text: what a person would see.

use serde_json::{Value, json};
use sluice_wire::view::RolloutView;

use super::{Board, Live, draw, view_line};

/// A view as the daemon would send it.
fn view(name: &str, change: Value) -> RolloutView {
    let mut view = json!({
        "rollout": format!("shop/{name}@v2-1"), "release": "v2", "revision": 9, "phase": "observing", "step": 2,
        "steps": [1.0, 5.0, 25.0, 50.0], "bake": 95.0, "weight": 5.0, "readBack": 5.0, "verdict": "undecided",
        "reason": "weight 5 % read back", "waitsFor": "step 2 is good but not watched long enough yet",
        "outcome": null, "alerts": [], "started": 1_790_000_000_000_i64, "changed": 1_790_000_192_000_i64,
        "watchedSeconds": 32.0, "neededSeconds": 60.0, "evidence": report(1.2, 2.4), "owner": "sluice-0",
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        view[key] = value.clone();
    }
    serde_json::from_value(view).unwrap()
}

fn report(log_abort: f64, log_advance: f64) -> Value {
    let count = |n: u64, x: u64| json!({"n": n, "x": x});
    let finding = |metric: &str, gates: bool| {
        json!({
            "metric": metric, "logAbort": log_abort, "abortBar": 4.6052, "logAdvance": log_advance, "advanceBar": 3.0,
            "gates": gates, "ratio": 1.1, "ratioLow": 0.4, "ratioHigh": 2.2, "canary": count(1240, 12),
            "stable": count(23000, 210), "needed": 900, "neededToAbort": null, "neededToAdvance": 900, "minutes": 3.0,
        })
    };
    json!({
        "verdict": "undecided", "step": 2, "windows": 12, "logAbort": log_abort, "abortBar": 4.6052, "tolerance": 0.01,
        "history": true, "findings": [finding("errors", true), finding("latency", false)], "culprits": [],
    })
}

fn reverted(name: &str) -> RolloutView {
    view(
        name,
        json!({
            "phase": "reverted", "outcome": "reverted", "step": null, "weight": 0.0, "readBack": 0.0, "verdict": null,
            "waitsFor": null, "reason": "canary fails 9.0 times as often (4.1 to 20.0), 99 % sure",
        }),
    )
}

#[test]
fn a_step_under_watch_shows_weights_and_evidence_against_its_bars() {
    insta::assert_snapshot!(draw(&[view("checkout", json!({}))], 100));
}

#[test]
fn a_paused_rollout_shows_its_alert_and_a_weight_that_is_not_there_yet() {
    let change = json!({
        "phase": "paused", "readBack": 4.0, "alerts": ["needs attention: the weight keeps changing"], "evidence": null,
        "watchedSeconds": null, "neededSeconds": null, "waitsFor": "a person: resume, promote or abort",
    });
    insta::assert_snapshot!(draw(&[view("checkout", change)], 100));
}

#[test]
fn ended_rollouts_say_why_and_nothing_else() {
    insta::assert_snapshot!(draw(&[reverted("cart"), view("checkout", json!({}))], 72));
}

#[test]
fn what_does_not_fit_is_drawn_one_a_line_and_then_counted() {
    let views: Vec<RolloutView> =
        (0..30).map(|number| view(&format!("service-{number}"), json!({}))).collect();
    let picture = Board::new(&views).width(90).height(12).footer("Ctrl-C ends").draw();
    assert_eq!(picture.lines().count(), 12);
    insta::assert_snapshot!(picture);
}

#[test]
fn an_empty_board_says_so() {
    assert_eq!(draw(&[], 80), "no rollouts\n");
}

#[test]
fn no_line_is_wider_than_the_terminal_however_small_it_is() {
    let wide = view("checkout", json!({"reason": "ログインが失敗する ".repeat(20)}));
    for width in 1..130 {
        let picture = draw(&[wide.clone(), reverted("cart")], width);
        let widest = picture.lines().map(super::line::columns).max();
        assert!(widest <= Some(width), "{widest:?} columns on a terminal of {width}");
    }
}

/// A reason comes from whoever may send a command.
#[test]
fn texts_of_others_cannot_move_the_cursor() {
    let evil = "ok\x1b[2J\x1b]0;title\x07\u{202e}drowssap\r\nfake line";
    let change = json!({"reason": evil, "release": evil, "waitsFor": evil, "alerts": [evil], "phase": evil});
    let view = view("checkout", change);
    let texts =
        [draw(std::slice::from_ref(&view), 100), view_line(&view), Board::new(&[view]).table().draw()];
    for text in texts {
        assert!(!text.contains(['\x1b', '\x07', '\u{202e}', '\r']), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("fake")), "{text}");
    }
}

#[test]
fn colours_say_nothing_that_the_text_does_not() {
    let views = [view("checkout", json!({})), reverted("cart")];
    let coloured = Board::new(&views).width(100).colour(true).draw();
    let mut plain = String::new();
    let mut inside = false;
    for c in coloured.chars() {
        match (inside, c) {
            (false, '\x1b') => inside = true,
            (true, 'm') => inside = false,
            (true, _) => {}
            (false, c) => plain.push(c),
        }
    }
    assert_eq!(plain, Board::new(&views).width(100).draw());
    assert_ne!(plain, coloured);
}

#[test]
fn a_plain_line_tells_the_whole_change() {
    insta::assert_snapshot!(view_line(&view("checkout", json!({}))));
}

#[test]
fn the_terminal_comes_back_whatever_happens() {
    let mut screen = Vec::new();
    {
        let mut live = Live::on(&mut screen, || (60, 10), false, "footer").unwrap();
        live.show(&[view("checkout", json!({}))]).unwrap();
    }
    let text = String::from_utf8(screen).unwrap();
    let (enter, leave) = (text.find("\x1b[?1049h").unwrap(), text.rfind("\x1b[?1049l").unwrap());
    let (hide, show) = (text.find("\x1b[?25l").unwrap(), text.rfind("\x1b[?25h").unwrap());
    assert!(enter < leave && hide < show, "{text:?}");
}

#[test]
fn closed_it_leaves_the_last_picture_on_the_first_screen() {
    let mut screen = Vec::new();
    let live = Live::on(&mut screen, || (60, 10), false, "footer").unwrap();
    live.close(&[reverted("cart")]).unwrap();
    let text = String::from_utf8(screen).unwrap();
    let (_, after) = text.rsplit_once("\x1b[?1049l").unwrap();
    assert!(after.contains("shop/cart@v2-1") && after.contains("9.0 times"), "{after:?}");
}
