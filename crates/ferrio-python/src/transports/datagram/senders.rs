//! Who sends datagrams: a peer that goes on talking gets the same address object again, and an answer to the one that
//! has spoken last needs no parsing. (Making such an object takes 200 ns, finding it 20.)

use pyo3::prelude::*;

use crate::transports::address::{KeptAddress, RawAddress};

/// With more than one sender, so many places are kept for them. Two that share one take turns.
const PLACES: usize = 256;

type Place = Option<(KeptAddress, Py<PyAny>)>;

/// The senders of one socket.
#[derive(Default)]
pub struct Senders {
    /// None, one, or [`PLACES`] places.
    places: Box<[Place]>,
    last: usize,
}

impl Senders {
    /// The object of an address, which has sent something now.
    pub fn find<'py>(&mut self, py: Python<'py>, raw: &RawAddress) -> Option<Bound<'py, PyAny>> {
        let place = self.place_of(raw);
        let (known, object) = self.places.get(place)?.as_ref()?;
        if known != raw {
            return None;
        }
        self.last = place;
        Some(object.bind(py).clone())
    }

    /// Remembers an address that was not found. What has to go for it is returned, to be dropped where that may call
    /// anybody.
    #[must_use]
    pub fn insert(&mut self, raw: &RawAddress, object: Py<PyAny>) -> (Box<[Place]>, Place) {
        let size = match self.places.len() {
            0 => 1,
            _ => PLACES,
        };
        let small = if size == self.places.len() {
            Box::default()
        } else {
            std::mem::replace(&mut self.places, (0..size).map(|_| None).collect())
        };
        self.last = self.place_of(raw);
        let former = self.places[self.last].replace((KeptAddress::from(raw), object));
        (small, former)
    }

    /// Where the last sender's datagrams came from, if this is its object.
    pub fn last(&self, object: &Bound<'_, PyAny>) -> Option<RawAddress> {
        let (known, last) = self.places.get(self.last)?.as_ref()?;
        object.is(last).then(|| known.into())
    }

    fn place_of(&self, raw: &RawAddress) -> usize {
        // 0 with one place, or with none.
        raw.hash() as usize & self.places.len().saturating_sub(1)
    }
}
