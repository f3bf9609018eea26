//! Kayenta's own examples, and what they must come to.
//!
//! The data are those of its `ClassifierSuite` and `StatisticSuite` (Spinnaker Kayenta, facts taken over); the intervals
//! were computed with scipy's ranks and R's zeroin.

use sluice_analyzers::kayenta::{Class, Direction, EffectPlan, GaugePlan, Measure};
use sluice_analyzers::mann_whitney::{common_language_effect, shift};

const STEADY: [f64; 30] = [
    9.776734312010946,
    10.587071850477695,
    7.837550638890177,
    9.324332688611388,
    8.377450540978442,
    8.935926439960628,
    8.270766332472851,
    9.748430812671693,
    11.623746715547156,
    9.275344267963394,
    8.153804774917152,
    10.562020975754294,
    13.498135575451835,
    11.054419256110332,
    6.953890359005509,
    12.52100834219548,
    9.021635860354644,
    4.923485669953166,
    11.251360203607172,
    11.598449508040337,
    8.435232204668182,
    11.110228516867279,
    10.70063380164755,
    8.921277365211525,
    10.086167067942661,
    11.42107515483087,
    9.379234781364495,
    7.798032014855259,
    10.62339807275746,
    11.909642062063739,
];
const CONTROL: [f64; 30] = [
    11.1453586774086,
    9.961805988559702,
    7.068574306369829,
    7.301266181048366,
    9.794463026565673,
    9.60379186036873,
    6.186779335033939,
    12.345599159550174,
    10.371891733859533,
    8.609430078501672,
    9.913162673361084,
    10.361375299003466,
    14.206800387518818,
    10.9461537547533,
    10.215876627044048,
    11.739760899484603,
    10.907627468626439,
    12.823353694464775,
    8.101860977173214,
    8.498161640880493,
    12.113441374697231,
    13.272210809932028,
    10.114579381663297,
    6.946395876797807,
    6.210527854172778,
    10.160401684903775,
    8.345771206645546,
    8.383822063895833,
    7.0020205070083765,
    10.755757401808442,
];
const RAISED: [f64; 30] = [
    20.878412601720026,
    21.78550581191622,
    19.70828084717019,
    15.859946903461562,
    19.51005877217684,
    19.392005525270303,
    22.9265283149121,
    17.156530276709894,
    18.65511791622617,
    23.422607911610392,
    24.055817684156644,
    22.62689958516501,
    21.979472967817678,
    21.659318607218694,
    20.067707574072426,
    22.119570836305414,
    16.44037132663307,
    21.55962282634127,
    21.00018144348922,
    17.779369411412663,
    17.806006358943584,
    18.53720061838611,
    20.555550300210797,
    19.552928184468378,
    21.771118944087092,
    21.809622806176627,
    20.96176290990527,
    20.97757157750302,
    19.106303205498794,
    16.97691896698708,
];
const RAISED_CONTROL: [f64; 30] = [
    20.758113589510348,
    22.80205962946456,
    20.61234036349221,
    20.973274654749986,
    23.469237330498622,
    21.53133988954805,
    21.767353687439805,
    18.3080507303743,
    19.062145167827566,
    25.87949843600178,
    18.98262972633613,
    19.387920182269266,
    18.995398251246982,
    24.228420230932805,
    20.050985172694688,
    18.2340451091756,
    17.870515494460435,
    23.05810386380662,
    18.400259567501134,
    16.971352091177167,
    19.46752906605215,
    17.90465423342031,
    17.55394861782583,
    16.104611843907193,
    24.38171081433039,
    15.919294339922635,
    20.479409626304697,
    19.08307201492406,
    17.455788050722866,
    18.853826823235142,
];
fn gauge(direction: Direction) -> GaugePlan {
    GaugePlan { direction, tolerance: 0.10, confidence: 0.95, ..GaugePlan::named("gauge") }
}

#[test]
fn classes_are_kayentas() {
    let either = gauge(Direction::Either);
    assert_eq!(either.classify(&STEADY, &CONTROL).class, Class::Pass);
    assert_eq!(either.classify(&RAISED, &CONTROL).class, Class::High);
    assert_eq!(either.classify(&STEADY, &RAISED_CONTROL).class, Class::Low);
    let (increase, decrease) = (gauge(Direction::Increase), gauge(Direction::Decrease));
    assert_eq!(increase.classify(&STEADY, &RAISED_CONTROL).class, Class::Pass);
    assert_eq!(decrease.classify(&RAISED, &CONTROL).class, Class::Pass);
    assert_eq!(increase.classify(&RAISED, &CONTROL).class, Class::High);
    assert_eq!(decrease.classify(&STEADY, &RAISED_CONTROL).class, Class::Low);
}

#[test]
fn intervals_agree_to_the_last_digits() {
    let cases = [
        (&STEADY, &CONTROL, 0.98, [-1.26335593060291, 1.26875879364603, 0.0587400032689371]),
        (&STEADY, &CONTROL, 0.95, [-1.05916608229699, 1.0925689440974, 0.0587400032689371]),
        (&RAISED, &CONTROL, 0.98, [9.14867552118621, 11.8191532318428, 10.6228410743432]),
        (&RAISED, &CONTROL, 0.95, [9.33706340995053, 11.6192029226714, 10.6228410743432]),
        (&STEADY, &RAISED_CONTROL, 0.98, [-11.28019240324, -8.52101488256994, -9.89816899924419]),
        (&STEADY, &RAISED_CONTROL, 0.95, [-11.114987026466, -8.79971158434691, -9.89816899924419]),
    ];
    for (canary, stable, confidence, [low, high, estimate]) in cases {
        let found = shift(canary, stable, confidence);
        for (got, want) in [(found.low, low), (found.high, high), (found.estimate, estimate)] {
            assert!((got - want).abs() < 1e-11, "{got} for {want}");
        }
    }
}

#[test]
fn ties_are_averaged() {
    let stable = [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0, 6.0];
    let canary = [2.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0, 6.0, 7.0, 9.0, 9.0];
    let found = shift(&canary, &stable, 0.98);
    let wanted = [
        (found.low, -6.08722699064627e-05),
        (found.high, 4.99994461056219),
        (found.estimate, 2.00006326620324),
    ];
    for (got, want) in wanted {
        assert!((got - want).abs() < 1e-11, "{got} for {want}");
    }
}

#[test]
fn an_effect_too_small_to_matter_passes() {
    let with = |effect| GaugePlan { effect, ..gauge(Direction::Either) };
    let ratio = EffectPlan { allowed_increase: Some(2.5), ..EffectPlan::default() };
    assert_eq!(with(ratio).classify(&RAISED, &CONTROL).class, Class::Pass);
    let ratio = EffectPlan { allowed_increase: Some(1.9), ..EffectPlan::default() };
    assert_eq!(with(ratio).classify(&RAISED, &CONTROL).class, Class::High);
    let cles = EffectPlan { measure: Measure::Cles, allowed_increase: Some(0.9), ..EffectPlan::default() };
    assert_eq!(with(cles).classify(&RAISED, &CONTROL).class, Class::High);
    let low = EffectPlan { allowed_decrease: Some(0.3), ..EffectPlan::default() };
    assert_eq!(with(low).classify(&STEADY, &RAISED_CONTROL).class, Class::Pass);
}

#[test]
fn a_critical_gauge_is_critical_only_beyond_its_effect() {
    let critical = |least: f64| GaugePlan {
        critical: true,
        effect: EffectPlan { critical_increase: Some(least), ..EffectPlan::default() },
        ..gauge(Direction::Either)
    };
    assert!(critical(1.9).classify(&RAISED, &CONTROL).critical);
    let mild = critical(2.5).classify(&RAISED, &CONTROL);
    assert!(!mild.critical && mild.class == Class::High);
}

#[test]
fn the_common_language_effect_is_kayentas() {
    let low = [2.27776335, 2.61149434, 3.26894105, 2.91672701, 1.40656921];
    let high = [25.31531073, 25.19450817, 24.6288846, 24.37991861, 26.40999244];
    assert_eq!(common_language_effect(&low, &high), 0.0);
    assert_eq!(common_language_effect(&high, &low), 1.0);
    let canary = [
        29.17644856,
        25.16947646,
        25.88467948,
        29.4900454,
        27.05622757,
        26.13307864,
        27.2711558,
        26.69139944,
        29.05412377,
        26.39818697,
        26.68312641,
        24.99600187,
        27.99524816,
        22.57278291,
        23.72798196,
        25.82821505,
        28.26624521,
        28.02370228,
        24.1792213,
        26.02914828,
        25.90970275,
        31.18337461,
        27.44254942,
        29.93347686,
        26.70848069,
        28.12191913,
        27.39257837,
        30.17636627,
        29.60240485,
        30.10635388,
    ];
    let stable = [
        24.69397578,
        25.37120574,
        25.86186148,
        26.93804252,
        22.72232309,
        24.15894084,
        24.80842752,
        26.07830794,
        27.35323988,
        23.25110886,
        24.65909111,
        23.88299016,
        21.34817847,
        26.33198082,
        23.39498829,
        26.6734461,
        25.33769589,
        23.92348759,
        25.29740715,
        24.21381887,
        28.1697053,
        22.2271772,
        27.16612837,
        25.16639243,
        26.85955896,
        27.13421926,
        25.43350074,
        26.32130314,
        23.8854011,
        27.86180318,
    ];
    assert!((common_language_effect(&canary, &stable) - 0.771).abs() < 0.001);
}
/// Kayenta's `MannWhitneySuite`, "Intermediate Values": 210 and 210 values, most of them 0; these are the others.
const SPARSE_CANARY: [f64; 64] = [
    1.6666666666666572,
    3.703703703703681,
    1.5625000000000142,
    3.333333333333343,
    1.7543859649122737,
    1.8518518518518476,
    1.8518518518518476,
    1.5151515151515156,
    1.7857142857142776,
    1.3333333333333286,
    3.125000000000014,
    1.9607843137255117,
    1.4492753623188293,
    2.439024390243887,
    1.6393442622950687,
    1.6129032258064484,
    1.9607843137255117,
    1.5873015873015817,
    2.8169014084507182,
    3.0303030303030454,
    3.3898305084745743,
    1.234567901234584,
    1.7241379310344769,
    1.6949152542372872,
    1.470588235294116,
    1.3698630136986196,
    3.225806451612911,
    1.754385964912288,
    3.4482758620689538,
    3.333333333333343,
    1.818181818181813,
    1.4285714285714448,
    1.8867924528301927,
    2.0000000000000284,
    2.985074626865682,
    1.6666666666666714,
    1.5625,
    1.9230769230769198,
    1.8518518518518619,
    2.702702702702709,
    1.3513513513513544,
    1.818181818181813,
    1.6666666666666572,
    1.818181818181813,
    1.4285714285714164,
    4.1095890410959015,
    1.8518518518518619,
    1.8518518518518476,
    1.3888888888888857,
    1.8867924528301785,
    1.4285714285714164,
    1.5625,
    1.8867924528301927,
    2.040816326530603,
    1.818181818181813,
    1.6393442622950687,
    1.7241379310344769,
    1.5151515151515156,
    2.564102564102555,
    5.555555555555557,
    4.081632653061206,
    3.5714285714285836,
    2.040816326530603,
    3.1746031746031633,
];
const SPARSE_STABLE: [f64; 17] = [
    1.5625000000000142,
    1.3888888888888857,
    1.5384615384615614,
    1.492537313432834,
    1.6949152542373014,
    1.470588235294116,
    1.754385964912288,
    1.8518518518518619,
    1.6393442622950687,
    1.7241379310344769,
    1.5873015873015817,
    1.492537313432834,
    3.124999999999986,
    1.492537313432834,
    2.9850746268656536,
    2.5000000000000284,
    1.7857142857142776,
];

/// The expected numbers are R's, as that specification gives them.
#[test]
fn intermediate_values_are_kayentas() {
    let padded = |of: &[f64], zeros: usize| [of, &vec![0.0; zeros]].concat();
    let canary = padded(&SPARSE_CANARY, 146);
    let stable = padded(&SPARSE_STABLE, 193);
    let found = shift(&canary, &stable, 0.95);
    assert!((found.low - 3.521755377702165e-5).abs() < 1e-15, "{found:?}");
    assert!((found.high - 2.02456461662334e-5).abs() < 1e-15, "{found:?}");
    assert!((found.estimate - 2.6279243045155653e-5).abs() < 1e-15, "{found:?}");
}
