//! Starts an actor so that its end, whatever the cause, is told exactly once.
//!
//! actix's own `Supervisor` restarts an actor that stops, not one that panics: a panic in a handler,
//! a timer or `started` kills the actor's task and nobody hears of it. Here the task itself is
//! wrapped, so that a panic anywhere in the actor costs that actor alone and its parent knows in
//! microseconds.

use actix::{
    Actor, Addr, ArbiterHandle, AsyncContext, Context,
    dev::{ContextFut, channel::channel},
};
use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

/// Messages that wait at most, per address.
const MAILBOX: usize = 16;

/// Why an actor is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActorExit {
    /// It stopped.
    Stopped,
    /// It panicked, with this message.
    Panicked(String),
}

/// Starts the actor that `build` makes on `arbiter`, and calls `on_exit` there when it has ended.
pub fn start_guarded<A>(
    arbiter: &ArbiterHandle,
    build: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
    on_exit: impl FnOnce(ActorExit) + Send + 'static,
) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    let (sender, receiver) = channel(MAILBOX);
    let guard = ExitGuard(Some(on_exit));
    arbiter.spawn_fn(move || {
        let built = catch_unwind(AssertUnwindSafe(move || {
            let mut context = Context::with_receiver(receiver);
            let actor = build(&mut context);
            context.into_future(actor)
        }));
        match built {
            Ok(life) => run(life, guard),
            Err(panic) => guard.report(ActorExit::Panicked(message_of(panic.as_ref()))),
        }
    });
    Addr::new(sender)
}

/// Drives the actor to its end. One that panicked is dropped only after that has been told, and with
/// the same care: dropping it runs the rest of its life.
fn run<A, F>(life: ContextFut<A, Context<A>>, guard: ExitGuard<F>)
where
    A: Actor<Context = Context<A>>,
    Context<A>: AsyncContext<A>,
    F: FnOnce(ActorExit) + 'static,
{
    let (mut life, mut guard) = (Some(Box::pin(life)), Some(guard));
    actix::spawn(poll_fn(move |cx| {
        let Some(running) = life.as_mut() else { return Poll::Ready(()) };
        let exit = match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => ActorExit::Stopped,
            Err(panic) => ActorExit::Panicked(message_of(panic.as_ref())),
        };
        if let Some(guard) = guard.take() {
            guard.report(exit);
        }
        let _ = catch_unwind(AssertUnwindSafe(|| drop(life.take())));
        Poll::Ready(())
    }));
}

/// Reports once; a task that is dropped with its arbiter counts as stopped.
struct ExitGuard<F: FnOnce(ActorExit)>(Option<F>);

impl<F: FnOnce(ActorExit)> ExitGuard<F> {
    fn report(mut self, exit: ActorExit) {
        if let Some(on_exit) = self.0.take() {
            on_exit(exit);
        }
    }
}

impl<F: FnOnce(ActorExit)> Drop for ExitGuard<F> {
    fn drop(&mut self) {
        if let Some(on_exit) = self.0.take() {
            on_exit(ActorExit::Stopped);
        }
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used, reason = "panics are what is tested")]
    use super::*;
    use actix::prelude::*;
    use std::time::Duration;
    use tokio::sync::oneshot;

    #[derive(Clone, Copy, PartialEq)]
    enum Where {
        Factory,
        Started,
        Handler,
        Interval,
        SpawnedFuture,
        Stopping,
        Stopped,
        Nowhere,
    }

    struct Fragile(Where);

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Poke;

    impl Actor for Fragile {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            match self.0 {
                Where::Started => panic!("started"),
                Where::Interval => {
                    ctx.run_interval(Duration::from_millis(1), |_, _| panic!("interval"));
                }
                Where::SpawnedFuture => {
                    ctx.spawn(async { panic!("future") }.into_actor(self));
                }
                _ => {}
            }
        }
        fn stopping(&mut self, _: &mut Self::Context) -> Running {
            assert!(self.0 != Where::Stopping, "stopping");
            Running::Stop
        }
        fn stopped(&mut self, _: &mut Self::Context) {
            assert!(self.0 != Where::Stopped, "stopped");
        }
    }

    impl Handler<Poke> for Fragile {
        type Result = ();
        fn handle(&mut self, _: Poke, ctx: &mut Self::Context) {
            match self.0 {
                Where::Handler => panic!("handler"),
                Where::Stopping | Where::Stopped | Where::Nowhere => ctx.stop(),
                _ => {}
            }
        }
    }

    #[actix::test]
    async fn a_panic_anywhere_is_told_once_and_others_live_on() {
        let arbiter = Arbiter::current();
        let (other_exit, mut other_ended) = oneshot::channel();
        let other = start_guarded(
            &arbiter,
            |_| Fragile(Where::Nowhere),
            move |exit| {
                let _ = other_exit.send(exit);
            },
        );
        use Where::*;
        for place in [Factory, Started, Handler, Interval, SpawnedFuture, Stopping, Stopped] {
            let (told, ended) = oneshot::channel();
            let address = start_guarded(
                &arbiter,
                move |_| {
                    assert!(place != Factory, "factory");
                    Fragile(place)
                },
                move |exit| told.send(exit).unwrap(),
            );
            address.do_send(Poke);
            assert!(matches!(ended.await.unwrap(), ActorExit::Panicked(_)));
            assert!(other_ended.try_recv().is_err(), "the other one goes on");
        }
        other.send(Poke).await.unwrap();
        assert_eq!(other_ended.await.unwrap(), ActorExit::Stopped);
    }
}
