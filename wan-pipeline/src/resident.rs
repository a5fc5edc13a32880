use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A network that is loaded when it is first needed, and then shared. `F` is the form that it is loaded in,
/// of which there is one at a time.
///
/// Who uses it takes a [`Lease`] first. Who asks for it while another thread loads it waits for that
/// thread, so that nothing is loaded twice.
pub(crate) struct Resident<M, F = ()> {
    state: Mutex<State<M, F>>,
    kept: bool,
}

struct State<M, F> {
    network: Option<(F, Arc<M>)>,
    leases: usize,
}

impl<M, F: Copy + PartialEq> Resident<M, F> {
    /// A network that stays until it is unloaded.
    pub(crate) fn kept() -> Self {
        Self { state: Mutex::new(State { network: None, leases: 0 }), kept: true }
    }

    /// A network that goes with its last lease.
    pub(crate) fn while_leased() -> Self {
        Self { kept: false, ..Self::kept() }
    }

    pub(crate) fn lease(&self) -> Lease<'_, M, F> {
        self.state().leases += 1;
        Lease(self)
    }

    /// Lets go of the network; its memory is free when its present users are done.
    pub(crate) fn unload(&self) {
        self.state().network = None;
    }

    /// The form in which it is loaded, if it is.
    pub(crate) fn form(&self) -> Option<F> {
        self.state().network.as_ref().map(|(form, _)| *form)
    }

    /// A load that panicked has left nothing behind that could be half done.
    fn state(&self) -> MutexGuard<'_, State<M, F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use a [`Resident`].
pub(crate) struct Lease<'a, M, F: Copy + PartialEq = ()>(&'a Resident<M, F>);

impl<M, F: Copy + PartialEq> Lease<'_, M, F> {
    /// The network in some form, loaded by `load` if it is not there. One in another form goes first.
    pub(crate) fn get_or_load_as<E>(
        &self,
        form: F,
        load: impl FnOnce() -> Result<M, E>,
    ) -> Result<Arc<M>, E> {
        let mut state = self.0.state();
        match &state.network {
            Some((found, network)) if *found == form => return Ok(network.clone()),
            _ => state.network = None,
        }
        let network = Arc::new(load()?);
        state.network = Some((form, network.clone()));
        Ok(network)
    }
}

impl<M> Lease<'_, M> {
    /// The network, loaded by `load` if it is not there.
    pub(crate) fn get_or_load<E>(&self, load: impl FnOnce() -> Result<M, E>) -> Result<Arc<M>, E> {
        self.get_or_load_as((), load)
    }
}

impl<M, F: Copy + PartialEq> Drop for Lease<'_, M, F> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.leases -= 1;
        if state.leases == 0 && !self.0.kept {
            state.network = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Result<u32, ()> {
        Ok(7)
    }

    fn not_again() -> Result<u32, ()> {
        panic!("loaded twice")
    }

    #[test]
    fn stays_while_anyone_has_a_lease() {
        let resident = Resident::<u32>::while_leased();
        let (first, second) = (resident.lease(), resident.lease());
        assert_eq!(first.get_or_load(load), Ok(Arc::new(7)));
        drop(first);
        assert_eq!(second.get_or_load(not_again), Ok(Arc::new(7)));
        drop(second);
        assert!(resident.state().network.is_none());
    }

    #[test]
    fn a_kept_one_stays_until_it_is_unloaded() {
        let resident = Resident::<u32>::kept();
        resident.lease().get_or_load(load).unwrap();
        resident.lease().get_or_load(not_again).unwrap();
        resident.unload();
        assert!(resident.state().network.is_none());
    }

    #[test]
    fn one_form_takes_the_place_of_another() {
        let resident = Resident::<u32, bool>::kept();
        let lease = resident.lease();
        let first = lease.get_or_load_as(false, load).unwrap();
        assert_eq!(resident.form(), Some(false));
        lease.get_or_load_as(false, not_again).unwrap();
        lease.get_or_load_as(true, || Ok::<_, ()>(8)).unwrap();
        assert_eq!((resident.form(), Arc::strong_count(&first)), (Some(true), 1));
    }

    #[test]
    fn a_load_that_failed_is_tried_again() {
        let resident = Resident::<u32>::kept();
        assert_eq!(resident.lease().get_or_load(|| Err("no")), Err("no"));
        assert_eq!(resident.lease().get_or_load(load), Ok(Arc::new(7)));
    }
}
