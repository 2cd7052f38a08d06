use super::*;
use proptest::prelude::*;

fn policy(policy: RestartWhen) -> RestartPolicy {
    RestartPolicy { policy, max_restarts: 2, ..RestartPolicy::default() }
}

fn drive(life: &mut Lifecycle, events: &[Event]) -> Vec<Effect> {
    let now = Instant::now();
    events.iter().flat_map(|event| life.step(*event, now, 0.5)).collect()
}

const DIES: [Event; 2] = [Event::Exited { success: false }, Event::Cleared];
const RUNS: Event = Event::Spawned { probed: false };

#[test]
fn a_probed_worker_is_ready_once_it_answers() {
    let mut life = Lifecycle::new(RestartPolicy::default());
    drive(&mut life, &[Event::Spawned { probed: true }]);
    assert_eq!(life.phase(), Phase::Starting);
    let effects = drive(&mut life, &[Event::Answered]);
    assert_eq!(life.phase(), Phase::Ready);
    assert_eq!(effects, [Effect::Tell(EventKind::WorkerReady), Effect::WatchLiveness]);
}

#[test]
fn a_death_is_followed_by_backoff_and_another_start() {
    let mut life = Lifecycle::new(policy(RestartWhen::OnFailure));
    drive(&mut life, &[RUNS]);
    drive(&mut life, &DIES);
    assert_eq!(life.phase(), Phase::Backoff);
    assert_eq!(drive(&mut life, &[Event::BackoffOver]), [Effect::CountRestart, Effect::Spawn]);
}

#[test]
fn too_many_deaths_are_a_failure_that_only_an_operator_ends() {
    let mut life = Lifecycle::new(policy(RestartWhen::OnFailure));
    for _ in 0..3 {
        drive(&mut life, &[RUNS]);
        drive(&mut life, &DIES);
        drive(&mut life, &[Event::BackoffOver]);
    }
    assert_eq!(life.phase(), Phase::Failed);
    assert_eq!(drive(&mut life, &[Event::Asked(Goal::Restart)]), [Effect::Spawn]);
    drive(&mut life, &[RUNS]);
    drive(&mut life, &DIES);
    assert_eq!(life.phase(), Phase::Backoff, "its count began anew");
}

#[test]
fn what_follows_an_exit_is_the_policys_to_say() {
    let cases = [
        (RestartWhen::OnFailure, true, Phase::Stopped),
        (RestartWhen::OnFailure, false, Phase::Backoff),
        (RestartWhen::Always, true, Phase::Backoff),
        (RestartWhen::Never, true, Phase::Stopped),
        (RestartWhen::Never, false, Phase::Failed),
    ];
    for (when, success, phase) in cases {
        let mut life = Lifecycle::new(policy(when));
        drive(&mut life, &[RUNS, Event::Exited { success }, Event::Cleared]);
        assert_eq!(life.phase(), phase, "{when:?} {success}");
    }
}

#[test]
fn a_stop_while_its_process_is_made_is_not_forgotten() {
    let mut life = Lifecycle::new(RestartPolicy::default());
    drive(&mut life, &[Event::Asked(Goal::Remove)]);
    assert!(drive(&mut life, &[RUNS]).contains(&Effect::Terminate));
    let effects = drive(&mut life, &[Event::Exited { success: true }, Event::Cleared]);
    assert_eq!(effects.last(), Some(&Effect::Forget));
}

#[test]
fn a_worker_that_hangs_is_ended_and_started_again_even_if_it_exits_well() {
    let mut life = Lifecycle::new(policy(RestartWhen::OnFailure));
    let effects = drive(&mut life, &[RUNS, Event::NotLive]);
    assert_eq!(effects.last(), Some(&Effect::Terminate));
    drive(&mut life, &[Event::Exited { success: true }, Event::Cleared]);
    assert_eq!(life.phase(), Phase::Backoff);
}

fn any_event() -> impl Strategy<Value = Event> {
    let goal =
        prop_oneof![Just(Goal::Remove), Just(Goal::Restart), Just(Goal::Halt), Just(Goal::Recover)];
    prop_oneof![
        any::<bool>().prop_map(|probed| Event::Spawned { probed }),
        Just(Event::SpawnFailed),
        Just(Event::Answered),
        Just(Event::NotReadyInTime),
        Just(Event::NotLive),
        any::<bool>().prop_map(|success| Event::Exited { success }),
        Just(Event::Cleared),
        Just(Event::BackoffOver),
        goal.prop_map(Event::Asked),
        Just(Event::Drain),
        Just(Event::Resume),
    ]
}

/// Whether the outside world could raise `event` now: a process ends only once, and only if it runs.
fn possible(event: Event, running: bool, left: bool, spawning: bool) -> bool {
    match event {
        Event::Spawned { .. } | Event::SpawnFailed => spawning,
        Event::Exited { .. } => running,
        Event::Cleared => left && !running,
        _ => true,
    }
}

proptest! {
    #[test]
    fn a_process_is_started_only_when_none_is_left(
        events in prop::collection::vec(any_event(), 0..200),
    ) {
        let mut life = Lifecycle::new(policy(RestartWhen::Always));
        let (mut running, mut left, mut spawning) = (false, false, true);
        let now = Instant::now();
        let (mut counted, mut asked) = (0, 0);
        for event in events {
            if !possible(event, running, left, spawning) {
                continue;
            }
            match event {
                Event::Spawned { .. } => (running, left, spawning) = (true, true, false),
                Event::SpawnFailed => spawning = false,
                Event::Exited { .. } => running = false,
                Event::Cleared => left = false,
                Event::Asked(Goal::Restart | Goal::Recover) => asked += 1,
                _ => {}
            }
            let ended = life.phase() == Phase::Removed;
            for effect in life.step(event, now, 0.0) {
                prop_assert!(!ended, "nothing happens after the end");
                if effect == Effect::Spawn {
                    prop_assert!(!running && !left && !spawning);
                    spawning = true;
                }
                counted += u32::from(effect == Effect::CountRestart);
            }
            prop_assert_eq!(life.phase().runs(), running);
            prop_assert!(counted <= 2 * (asked + 1), "intensity within one window");
        }
    }
}
