use sluice_analyzers::Plan;

use super::*;

fn run(plan: Plan, lines: &str) -> Result<JudgeAnswer, LineFault> {
    let (mut reader, mut judging) = (WindowLines::default(), Judging::new(plan));
    let mut count = |lined: LinedWindow| {
        let fault = |WindowFault { line, why }| LineFault { line, why };
        judging.window(&lined).map_err(fault)
    };
    for line in lines.lines() {
        reader.push(line)?.map(&mut count).transpose()?;
    }
    reader.finish().map(&mut count).transpose()?;
    Ok(judging.answer())
}

fn line(at: i64, step: u32, arm: &str, requests: u64, errors: u64) -> String {
    format!(
        r#"{{"at":{at},"step":{step},"arm":"{arm}","pod":"{arm}-0","requests":{requests},"errors":{errors}}}"#
    )
}

fn rollout(canary_errors: u64) -> String {
    let mut lines = Vec::new();
    for at in 0..120 {
        lines.push(line(1_790_000_000 + 15 * at, 0, "stable", 1500, 3));
    }
    for at in 120..360 {
        let at = 1_790_000_000 + 15 * at;
        lines.push(line(at, 1, "stable", 1425, 3));
        lines.push(line(at, 1, "canary", 75, canary_errors));
    }
    lines.join("\n")
}

#[test]
fn a_bad_canary_is_aborted_at_the_first_window_that_shows_it() {
    let answer = run(Plan::new(vec![0.05]), &rollout(8)).unwrap();
    assert_eq!(answer.decision, Decision::Abort);
    let at = answer.at.unwrap();
    assert!((1_790_001_800.0..1_790_001_900.0).contains(&at), "{at}");
    assert_eq!((answer.step, answer.windows), (1, 240));
    assert_eq!(answer.evidence[0].metric, "errors");
    assert!(answer.evidence[0].log_abort > answer.evidence[0].abort_bar);
}

#[test]
fn a_good_canary_is_advanced_and_history_gives_the_traffic() {
    let answer = run(Plan::new(vec![0.05, 0.25]), &rollout(0)).unwrap();
    assert_eq!(answer.decision, Decision::Advance, "{}", answer.words);
    let text = serde_json::to_value(&answer).unwrap();
    assert_eq!(text["decision"], "advance");
    assert!(text["evidence"][0]["logAdvance"].is_number());
}

#[test]
fn no_windows_is_hold() {
    let answer = run(Plan::new(vec![0.05]), "\n\n").unwrap();
    assert_eq!((answer.decision, answer.at, answer.windows), (Decision::Hold, None, 0));
}

#[test]
fn windows_that_come_late_or_again_are_left_out_and_named() {
    let at = |at| line(at, 1, "canary", 10, 1);
    let history = line(90, 0, "stable", 10, 0);
    let lines = [history.clone(), at(100), at(110), at(100), at(120), at(110), history].join("\n");
    let answer = run(Plan::new(vec![0.05]), &lines).unwrap();
    let told: Vec<(usize, bool)> =
        answer.left_out.iter().map(|one| (one.line, one.why.contains("sort the lines by at"))).collect();
    assert_eq!(told, [(4, true), (6, true), (7, false)]);
    assert_eq!((answer.windows, answer.windows_left_out), (3, 3));
    let many: String = (0..50).map(|_| format!("{}\n{}\n", at(100), at(90))).collect();
    let answer = run(Plan::new(vec![0.05]), &many).unwrap();
    assert_eq!((answer.left_out.len(), answer.windows_left_out), (20, 99));
}

#[test]
fn a_step_that_the_policy_does_not_have_is_refused() {
    let steps = |step| run(Plan::new(vec![0.05, 0.25]), &line(100, step, "canary", 10, 1));
    assert!(steps(3).is_ok(), "the bake");
    let fault = steps(4).unwrap_err();
    assert!(fault.line == 1 && fault.why.contains("2 steps and then the bake (step 3)"), "{fault}");
}

#[test]
fn the_first_window_is_as_long_as_the_second_and_gaps_count() {
    let mut reader = WindowLines::default();
    let mut lengths = Vec::new();
    for at in [100, 110, 120, 150, 140] {
        lengths.extend(reader.push(&line(at, 1, "canary", 5, 0)).unwrap());
    }
    lengths.extend(reader.finish());
    let lengths: Vec<i64> = lengths.iter().map(|lined| lined.window.end_ms - lined.window.start_ms).collect();
    assert_eq!(lengths, [10_000, 10_000, 10_000, 30_000, 30_000]);
}

#[test]
fn bad_lines_are_named() {
    let good = line(100, 1, "canary", 10, 1);
    let bad = [
        ("{", "the line is cut off"),
        (r#"{"at":101,"step":1,"arm":"canary","pod":"a","requests":-3}"#, "-3"),
        (r#"{"at":101,"step":1,"arm":"canary","pod":"a","requests":3,"errors":4}"#, "4 errors of 3"),
        (r#"{"at":101,"step":1,"arm":"blue","pod":"a","requests":3}"#, "blue"),
        (r#"{"at":101,"step":1,"arm":"canary","pod":"a","requets":3}"#, "requets"),
        (r#"{"at":101,"step":1,"arm":"canary","pod":"a","requests":NaN}"#, "expected"),
        (r#"{"at":1790000000000,"step":1,"arm":"canary","pod":"a","requests":3}"#, "seconds since 1970"),
        (
            r#"{"at":101,"step":1,"arm":"canary","pod":"a","requests":3,"buckets":{"0.1":3,"0.5":2,"+Inf":3}}"#,
            "cumulative",
        ),
        (r#"{"at":101,"step":1,"arm":"canary","pod":"a","requests":3,"buckets":{"0.1":3}}"#, "+Inf"),
        (
            r#"{"at":101,"step":1,"arm":"canary","pod":"a","requests":3,"buckets":{"fast":3,"+Inf":3}}"#,
            "fast",
        ),
        (r#"{"at":100,"step":2,"arm":"stable","pod":"b","requests":3}"#, "never spans steps"),
    ];
    for (line, word) in bad {
        let fault = run(Plan::new(vec![0.05]), &format!("{good}\n\n{line}\n{good}")).unwrap_err();
        assert_eq!(fault.line, 3, "{line}");
        assert!(fault.why.contains(word), "{word}: {}", fault.why);
    }
}

#[test]
fn a_line_or_a_window_that_comes_twice_at_once_changes_nothing() {
    let (plan, lines) = (Plan::new(vec![0.05]), rollout(8));
    let doubled: String = lines.lines().map(|line| format!("{line}\n{line}\n")).collect();
    let again: Vec<&str> = lines.lines().collect();
    let pairs: String = again.chunks(2).map(|pair| format!("{0}\n{0}\n", pair.join("\n"))).collect();
    let once = run(plan.clone(), &lines).unwrap();
    assert_eq!(run(plan.clone(), &doubled), Ok(once.clone()));
    assert_eq!(run(plan, &pairs).map(|answer| answer.evidence), Ok(once.evidence));
}

#[test]
fn who_is_to_blame_is_who_made_the_abort_whatever_came_after() {
    let mut lines = vec![line(100, 1, "stable", 900, 9), line(100, 1, "canary", 100, 80)];
    for at in 1..200 {
        lines.push(line(100 + 15 * at, 1, "stable", 9000, 90));
        lines.push(line(100 + 15 * at, 1, "canary", 1000, 0));
    }
    let answer = run(Plan::new(vec![0.05]), &lines.join("\n")).unwrap();
    assert_eq!(answer.decision, Decision::Abort);
    assert!(answer.words.starts_with("fail: errors"), "{}", answer.words);
}

#[test]
fn a_pod_twice_in_a_window_names_the_windows_first_line() {
    let (once, other) = (line(100, 1, "canary", 10, 1), line(100, 1, "canary", 11, 1));
    let fault = run(Plan::new(vec![0.05]), &format!("{once}\n{other}")).unwrap_err();
    assert_eq!(fault.line, 1);
    assert!(fault.why.contains("twice"), "{}", fault.why);
}

#[test]
fn gauges_may_be_null_and_requests_left_out() {
    let text = r#"{"at":101,"step":1,"arm":"canary","pod":"a","values":{"cpu":null,"heap":9.5}}"#;
    let mut reader = WindowLines::default();
    reader.push(text).unwrap();
    let window = reader.finish().unwrap().window;
    assert!(window.pods[0].values[0].1.is_nan());
    assert_eq!(window.pods[0].values[1], ("heap".to_owned(), 9.5));
}

#[test]
fn a_file_of_gauges_alone_is_judged_by_its_score() {
    let gauges = |canary: f64| {
        let mut lines = Vec::new();
        for at in 0..30 {
            for (arm, value) in [("stable", 10.0), ("canary", canary)] {
                let value = value + f64::from(at * 7 % 11) / 10.0;
                let at = 1_790_000_000 + 15 * at;
                lines.push(format!(
                    r#"{{"at":{at},"step":1,"arm":"{arm}","pod":"{arm}-0","values":{{"cpu":{value}}}}}"#
                ));
            }
        }
        lines.join("\n")
    };
    let analysis: crate::analysis::Analysis =
        serde_saphyr::from_str("{gauges: [{name: cpu, method: mannWhitney, direction: increase}]}").unwrap();
    let plan = analysis.plan(&[0.1], 0.95).unwrap();
    let answer = run(plan.clone(), &gauges(10.2)).unwrap();
    assert_eq!((answer.decision, answer.score), (Decision::Advance, Some(100.0)));
    let answer = serde_json::to_value(run(plan.clone(), &gauges(20.0)).unwrap()).unwrap();
    assert_eq!((&answer["decision"], &answer["score"]), (&"abort".into(), &0.0.into()));
    let cpu = answer["evidence"].as_array().unwrap().last().unwrap();
    assert_eq!((&cpu["metric"], &cpu["classification"]), (&"cpu".into(), &"high".into()));
    let answer = run(plan, &gauges(5.0)).unwrap();
    assert_eq!(answer.decision, Decision::Advance, "only an increase counts");
}
