//! Random programs against simple models: timers, the ready queue, descriptors.
#![cfg(unix)]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use common::*;
use ferrio::Direction;
use ferrio::cause::Cause;
use ferrio::ready::{Order, Ready};
use ferrio::timers::Timers;
use proptest::collection::vec;
use proptest::prelude::*;

// --- timers --------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum TimerStep {
    Set(u64),
    /// Cancels one of all timers ever set, living or not.
    Cancel(prop::sample::Index),
    Pass(u64),
    Clear,
}

fn timer_steps() -> impl Strategy<Value = Vec<TimerStep>> {
    let step = prop_oneof![
        10 => (0..60u64).prop_map(TimerStep::Set),
        8 => any::<prop::sample::Index>().prop_map(TimerStep::Cancel),
        3 => (0..15u64).prop_map(TimerStep::Pass),
        1 => Just(TimerStep::Clear),
    ];
    vec(step, 1..400)
}

proptest! {
    #[test]
    fn timers_are_a_map_ordered_by_deadline_and_sequence(steps in timer_steps()) {
        let mut timers = Timers::default();
        let mut model = BTreeMap::new();
        let mut ids = Vec::new();
        let mut now = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                TimerStep::Set(delay) => {
                    let when = now + delay;
                    let id = timers.insert(when, number);
                    model.insert((when, id.sequence()), number);
                    ids.push((id, when));
                }
                TimerStep::Cancel(index) if !ids.is_empty() => {
                    let (id, when) = ids[index.index(ids.len())];
                    prop_assert_eq!(timers.remove(id), model.remove(&(when, id.sequence())));
                }
                TimerStep::Cancel(_) => {}
                TimerStep::Pass(time) => {
                    now += time;
                    while let Some((id, _, value)) = timers.pop_due(now) {
                        let ((when, sequence), expected) = model.pop_first().expect("the model has it, too");
                        prop_assert!(when <= now);
                        prop_assert_eq!((id.sequence(), value), (sequence, expected));
                    }
                }
                TimerStep::Clear => {
                    let mut values = timers.take_all();
                    values.sort_unstable();
                    let mut expected: Vec<_> = std::mem::take(&mut model).into_values().collect();
                    expected.sort_unstable();
                    prop_assert_eq!(values, expected);
                }
            }
            let due_before = model.first_key_value().is_some_and(|(&(when, _), _)| when <= now);
            prop_assert_eq!(timers.next_deadline(), model.first_key_value().map(|(&(when, _), _)| when));
            prop_assert_eq!(timers.len(), model.len());
            prop_assert_eq!(timers.values().count(), model.len());
            prop_assert!(due_before || timers.pop_due(now).is_none(), "nothing fires early");
        }
    }
}

// --- the ready queue -----------------------------------------------------------------------------------------------

proptest! {
    /// Each turn takes what was there when it began: in order without a seed, in some order with one.
    #[test]
    fn a_turn_of_the_ready_queue_is_its_snapshot(turns in vec(0..20usize, 1..30), seed in any::<Option<u64>>()) {
        let mut ready = Ready::new(seed.map_or(Order::Fifo, Order::Seeded));
        let mut model = VecDeque::new();
        let mut next = 0;
        for pushes in turns {
            let snapshot: Vec<u32> = model.drain(..).collect();
            let mut picked = Vec::new();
            for left in (1..=snapshot.len()).rev() {
                // What a step makes ready meanwhile must not be picked in this turn.
                if left % 3 == 0 {
                    ready.push(next, Cause::OUTSIDE);
                    model.push_back(next);
                    next += 1;
                }
                picked.extend(ready.pick(left).map(|(work, _)| work));
            }
            if seed.is_some() {
                picked.sort_unstable();
            }
            prop_assert_eq!(picked, snapshot);
            for _ in 0..pushes {
                ready.push(next, Cause::OUTSIDE);
                model.push_back(next);
                next += 1;
            }
            prop_assert_eq!(ready.len(), model.len());
        }
    }
}

// --- descriptors ---------------------------------------------------------------------------------------------------

const SOCKETS: usize = 3;
const SIDES: [Direction; 2] = [Direction::Read, Direction::Write];

#[derive(Clone, Debug)]
enum SocketStep {
    /// Opens a socket in this place, with or without something to read; the kernel hands out numbers that were closed.
    Open(usize, bool),
    /// Tells the loop and closes.
    Release(usize),
    /// Closes without telling; only if nobody watches, as asyncio demands.
    Close(usize),
    Fill(usize),
    Empty(usize),
    Watch(usize, usize),
    Unwatch(usize, usize),
    Wait(usize, usize),
    Turn,
}

fn socket_steps() -> impl Strategy<Value = Vec<SocketStep>> {
    let (socket, side) = (0..SOCKETS, 0..2usize);
    let step = prop_oneof![
        3 => (socket.clone(), any::<bool>()).prop_map(|(s, full)| SocketStep::Open(s, full)),
        1 => socket.clone().prop_map(SocketStep::Release),
        1 => socket.clone().prop_map(SocketStep::Close),
        2 => socket.clone().prop_map(SocketStep::Fill),
        2 => socket.clone().prop_map(SocketStep::Empty),
        3 => (socket.clone(), side.clone()).prop_map(|(s, d)| SocketStep::Watch(s, d)),
        2 => (socket.clone(), side.clone()).prop_map(|(s, d)| SocketStep::Unwatch(s, d)),
        4 => (socket, side).prop_map(|(s, d)| SocketStep::Wait(s, d)),
        6 => Just(SocketStep::Turn),
    ];
    vec(step, 1..80)
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Who {
    #[default]
    Nobody,
    Watcher(String),
    Waiters(Vec<String>),
}

struct Socket {
    near: UnixStream,
    far: UnixStream,
    is_readable: bool,
    watched: [Who; 2],
}

impl Socket {
    fn new(full: bool) -> Self {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut socket = Socket { near, far, is_readable: false, watched: Default::default() };
        if full {
            socket.fill();
        }
        socket
    }

    fn fill(&mut self) {
        (&self.far).write_all(b"x").unwrap();
        self.is_readable = true;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// In every turn exactly those are told who watch or wait for a direction that has news, whatever was opened,
    /// closed, watched and forgotten before under the same number.
    #[test]
    fn descriptors_tell_whoever_watches_and_nobody_else(steps in socket_steps()) {
        let engine = new_loop();
        let mut sockets: [Option<Socket>; SOCKETS] = Default::default();
        for (number, step) in steps.into_iter().enumerate() {
            let name = format!("{step:?} of step {number}");
            match step {
                SocketStep::Open(place, full) => {
                    if let Some(old) = sockets[place].take() {
                        engine.release(old.near.as_raw_fd());
                        drop(old);
                    }
                    sockets[place] = Some(Socket::new(full));
                }
                SocketStep::Release(place) => {
                    if let Some(old) = sockets[place].take() {
                        engine.release(old.near.as_raw_fd());
                    }
                }
                SocketStep::Close(place) => {
                    sockets[place].take_if(|old| old.watched == [Who::Nobody, Who::Nobody]);
                }
                SocketStep::Fill(place) => {
                    if let Some(socket) = &mut sockets[place] {
                        socket.fill();
                    }
                }
                SocketStep::Empty(place) => {
                    if let Some(socket) = &mut sockets[place] {
                        while (&socket.near).read(&mut [0; 64]).is_ok() {}
                        socket.is_readable = false;
                    }
                }
                SocketStep::Watch(place, side) => {
                    if let Some(socket) = &mut sockets[place] {
                        let former = engine.watch(socket.near.as_raw_fd(), SIDES[side], note(&name)).unwrap();
                        prop_assert_eq!(former.is_some(), matches!(socket.watched[side], Who::Watcher(_)));
                        socket.watched[side] = Who::Watcher(name);
                    }
                }
                SocketStep::Unwatch(place, side) => {
                    if let Some(socket) = &mut sockets[place] {
                        let former = engine.unwatch(socket.near.as_raw_fd(), SIDES[side]);
                        prop_assert_eq!(former.is_some(), matches!(socket.watched[side], Who::Watcher(_)));
                        socket.watched[side] = Who::Nobody;
                    }
                }
                SocketStep::Wait(place, side) => {
                    if let Some(socket) = &mut sockets[place] {
                        let joined = engine.wake_on(socket.near.as_raw_fd(), SIDES[side], noting_waker(&name));
                        prop_assert_eq!(joined.is_err(), matches!(socket.watched[side], Who::Watcher(_)));
                        match &mut socket.watched[side] {
                            Who::Nobody => socket.watched[side] = Who::Waiters(vec![name]),
                            Who::Waiters(names) => names.push(name),
                            Who::Watcher(_) => {}
                        }
                    }
                }
                SocketStep::Turn => {
                    let mut expected = Vec::new();
                    for socket in sockets.iter_mut().flatten() {
                        let news = [socket.is_readable, true];
                        for (who, news) in socket.watched.iter_mut().zip(news) {
                            match who {
                                Who::Watcher(name) if news => expected.push(name.clone()),
                                Who::Waiters(names) if news => {
                                    expected.append(names);
                                    *who = Who::Nobody;
                                }
                                _ => {}
                            }
                        }
                    }
                    written(&engine);
                    // One turn, within a run, so that wakers find the loop.
                    engine.stop();
                    engine.run(()).unwrap();
                    let mut told = written(&engine);
                    told.sort();
                    expected.sort();
                    prop_assert_eq!(told, expected);
                }
            }
        }
    }
}
