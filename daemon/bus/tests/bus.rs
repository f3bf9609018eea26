//! One suite for every bus: each story below runs on the embedded bus in memory and in a file, and (feature `real`) on
//! a real nats-server of 2.9 and of today. What only one kind can do has a file of its own.

#[path = "suite/mod.rs"]
mod suite;

/// Runs every story in one place.
macro_rules! stories {
    ($place:ident: $($file:ident :: $story:ident),+ $(,)?) => {
        mod $place {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() -> anyhow::Result<()> {
                crate::suite::$file::$story(&crate::suite::place::$place).await
            })+
        }
    };
}

macro_rules! everywhere {
    ($($stories:tt)+) => {
        stories!(memory: $($stories)+);
        stories!(file: $($stories)+);
        #[cfg(feature = "real")]
        stories!(nats_2_9: $($stories)+);
        #[cfg(feature = "real")]
        stories!(nats_latest: $($stories)+);
    };
}

everywhere! {
    messages::a_message_comes_again_until_it_is_acknowledged,
    messages::one_that_is_given_back_lets_others_pass,
    messages::a_repeat_is_kept_once,
    messages::what_cannot_be_read_goes_to_the_dead_with_the_reason,
    messages::beyond_its_limit_the_oldest_of_what_happened_goes,
    messages::init_twice_makes_nothing_the_second_time,
    messages::a_flood_of_events_delays_no_override,
    doors::a_stored_override_waits_for_the_daemon_and_its_answer_is_kept,
    doors::an_answer_goes_nowhere_but_below_its_user,
    doors::a_request_is_answered_at_once,
    doors::a_request_without_a_daemon_says_so,
    doors::a_follower_goes_on_where_it_stopped,
    doors::a_follower_sees_only_what_its_pattern_matches,
    store::only_the_expected_revision_is_replaced,
    store::of_many_savers_one_wins,
    store::a_deleted_key_leaves_no_trace,
    store::keys_are_found_by_prefix_whatever_their_names,
    store::a_full_store_refuses_and_keeps_what_it_has,
    store::a_log_keeps_its_last_lines_in_order,
    store::a_record_is_read_on_from_any_place_and_keeps_its_last_batches,
    store::a_flood_of_records_pushes_no_line_of_a_log_out,
    bad_input::subjects_that_would_mean_more_are_refused,
    bad_input::what_is_too_large_is_refused_with_the_limit,
    bad_input::headers_that_would_break_the_protocol_are_refused,
    bad_input::strange_bytes_go_through_unchanged,
}
