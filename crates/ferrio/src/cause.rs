//! Why something is about to run: every entry of the ready queue carries a [`Cause`].
//!
//! A cause is one packed word (kind in the top 8 bits, payload in the other 56), so that it travels with every wake-up
//! for free and a recorder can store it as it is.

use std::fmt;

/// What a [`Cause`] points at; the payload's meaning stands with each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing inside the loop: the code that ran before or around it (`call_soon` before `run_forever`). Payload 0.
    Outside = 0,
    /// A step of this loop; the payload is its number.
    Step = 1,
    /// A timer; the payload is its sequence number.
    Timer = 2,
    /// The operating system reported a descriptor; the payload is `fd * 2 + direction` (0 read, 1 write).
    Descriptor = 3,
    /// Another thread, through the inbox. Payload 0.
    Thread = 4,
    /// A signal; the payload is its number.
    Signal = 5,
    /// A child process ended; the payload is its process id.
    Child = 6,
    /// A cancellation; the payload is the number of the step that asked for it.
    Cancel = 7,
}

/// Why an entry stands in the ready queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cause(u64);

const PAYLOAD_BITS: u32 = 56;
const PAYLOAD_MASK: u64 = (1 << PAYLOAD_BITS) - 1;

impl Cause {
    /// Code outside the running loop.
    pub const OUTSIDE: Cause = Cause::new(Kind::Outside, 0);
    /// Another thread.
    pub const THREAD: Cause = Cause::new(Kind::Thread, 0);

    /// A cause of this kind; a payload over 56 bits is cut.
    pub const fn new(kind: Kind, payload: u64) -> Self {
        Cause(((kind as u64) << PAYLOAD_BITS) | (payload & PAYLOAD_MASK))
    }

    /// A descriptor became readable (`write == false`) or writable.
    pub const fn descriptor(fd: i64, write: bool) -> Self {
        Cause::new(Kind::Descriptor, ((fd as u64) << 1) | write as u64)
    }

    /// As it is stored.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// What was stored.
    pub const fn from_word(word: u64) -> Self {
        Cause(word)
    }

    /// The kind of cause.
    pub const fn kind(self) -> Kind {
        match (self.0 >> PAYLOAD_BITS) as u8 {
            1 => Kind::Step,
            2 => Kind::Timer,
            3 => Kind::Descriptor,
            4 => Kind::Thread,
            5 => Kind::Signal,
            6 => Kind::Child,
            7 => Kind::Cancel,
            _ => Kind::Outside,
        }
    }

    /// The payload, whose meaning depends on the kind.
    pub const fn payload(self) -> u64 {
        self.0 & PAYLOAD_MASK
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.kind(), self.payload())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_keeps_its_kind_and_payload_in_one_word() {
        for kind in [
            Kind::Outside,
            Kind::Step,
            Kind::Timer,
            Kind::Descriptor,
            Kind::Thread,
            Kind::Signal,
            Kind::Child,
            Kind::Cancel,
        ] {
            let cause = Cause::new(kind, 77);
            assert_eq!((cause.kind(), cause.payload()), (kind, 77));
        }
        assert_eq!(Cause::descriptor(9, true).payload(), 19);
        assert_eq!(size_of::<Cause>(), 8);
    }
}
