#![allow(clippy::unwrap_used, reason = "a test says what it expects")]
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn told(workers: &[(String, f64)]) -> Event {
    let workers: Vec<_> = workers
        .iter()
        .map(|(instance, cpu)| {
            json!({"hive_id": "h", "group": "g", "instance": instance, "cpu_pct": cpu, "state": "ready"})
        })
        .collect();
    let event = json!({"type": "snapshot", "hives": [{"id": "h"}], "workers": workers});
    Event::Told(Box::new(serde_json::from_value(event).unwrap()))
}

fn after(events: impl IntoIterator<Item = Event>) -> State {
    let start = State::new("u", "");
    events.into_iter().fold(start, |state, event| state.next(event, Instant::now()).0)
}

fn three() -> Event {
    told(&[("1".into(), 5.0), ("2".into(), 50.0), ("3".into(), 0.0)])
}

fn names(state: &State) -> Vec<&str> {
    state.shown().iter().map(|worker| worker.instance.as_str()).collect()
}

#[test]
fn figures_are_sorted_largest_first_and_the_selection_stays_with_its_worker() {
    let state = after([three(), Event::Key(Key::Down), Event::Key(Key::Char('c'))]);
    assert_eq!(names(&state), ["2", "1", "3"]);
    assert_eq!(state.selected.as_ref().unwrap().instance, "2");
    let (state, _) = state.next(Event::Key(Key::Char('r')), Instant::now());
    assert_eq!(names(&state), ["3", "1", "2"]);
    assert_eq!(state.selected.as_ref().unwrap().instance, "2");
}

#[test]
fn letters_that_sort_are_only_letters_in_a_filter() {
    let keys = ['/', 'g', '/', '3'].map(|c| Event::Key(Key::Char(c)));
    let state = after([three()].into_iter().chain(keys));
    assert_eq!((names(&state), state.sort), (vec!["3"], Sort::Name));
    assert_eq!(state.selected.as_ref().unwrap().instance, "3", "what is hidden is not selected");
    let state = [Key::Char('q'), Key::Escape].into_iter().fold(state, |state, key| {
        let (state, effect) = state.next(Event::Key(key), Instant::now());
        assert_eq!(effect, None);
        state
    });
    assert_eq!(names(&state), ["1", "2", "3"]);
}

#[test]
fn a_log_is_followed_and_left() {
    let state = after([three()]);
    let (state, effect) = state.next(Event::Key(Key::Char('l')), Instant::now());
    assert_eq!(effect, Some(Effect::Follow("h/g/1".parse().unwrap())));
    let lines = (0..5_000).map(|n| n.to_string()).collect();
    let (state, _) = state.next(Event::Logged(lines), Instant::now());
    assert_eq!(state.log.len(), LOG_LINES_MAX);
    assert_eq!(state.log.back().unwrap(), "4999");
    let (state, effect) = state.next(Event::Key(Key::Escape), Instant::now());
    assert_eq!((effect, state.page), (Some(Effect::Unfollow), Page::List));
}

#[test]
fn a_queen_that_is_away_is_counted_from_the_first_failure_on() {
    let start = Instant::now();
    let lost = |why: &str| Event::Lost { why: why.into(), retry_in: Duration::from_secs(1) };
    let (state, _) = after([three()]).next(lost("a"), start);
    let (state, _) = state.next(lost("b"), start + Duration::from_secs(9));
    assert!(matches!(&state.link, Link::Lost { since, why, .. } if *since == start && why == "b"));
    assert_eq!(names(&state).len(), 3, "what was known is still shown");
    let (state, _) = state.next(three(), start);
    assert_eq!(state.link, Link::Live);
}

fn any_event() -> impl Strategy<Value = Event> {
    let key = prop_oneof![
        any::<char>().prop_map(Key::Char),
        prop::sample::select("qlrs/S?cmgnjk".chars().collect::<Vec<_>>()).prop_map(Key::Char),
        prop::sample::select(vec![
            Key::Enter,
            Key::Escape,
            Key::Backspace,
            Key::Up,
            Key::Down,
            Key::PageUp,
            Key::PageDown,
            Key::Home,
            Key::End,
        ]),
    ];
    prop_oneof![
        5 => key.prop_map(Event::Key),
        1 => any::<u16>().prop_map(Event::Resized),
        2 => prop::collection::btree_map("[0-9]{1,2}", 0.0_f64..900.0, 0..6)
            .prop_map(|workers| told(&workers.into_iter().collect::<Vec<_>>())),
        1 => prop::collection::vec("[a-z]{0,3}", 0..40).prop_map(Event::Logged),
        1 => Just(Event::LogEnded("over".into())),
        1 => Just(Event::Lost { why: "away".into(), retry_in: Duration::from_secs(1) }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_what_is_selected_is_shown_and_memory_is_bounded(
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let state = after(events);
        prop_assert!(state.log.len() <= LOG_LINES_MAX && state.filter.chars().count() <= FILTER_MAX);
        if state.page == Page::List {
            let shown = state.shown();
            let selected = shown.iter().filter(|worker| state.is_selected(worker)).count();
            prop_assert_eq!(selected, usize::from(!shown.is_empty()));
        }
    }

    #[test]
    fn sorting_and_turning_round_loses_and_invents_nobody(
        workers in prop::collection::btree_map("[0-9]{1,3}", 0.0_f64..900.0, 0..12),
        steps in 0_usize..12,
    ) {
        let workers: Vec<_> = workers.into_iter().collect();
        let sort = Event::Key(Key::Char('s'));
        let state = after([told(&workers)].into_iter().chain(vec![sort; steps]));
        let mut forward: Vec<_> = names(&state).into_iter().map(str::to_owned).collect();
        let (state, _) = state.next(Event::Key(Key::Char('r')), Instant::now());
        let mut back: Vec<_> = names(&state).into_iter().map(str::to_owned).collect();
        forward.sort();
        back.sort();
        prop_assert_eq!(&forward, &back);
        prop_assert_eq!(forward.len(), workers.len());
    }
}
