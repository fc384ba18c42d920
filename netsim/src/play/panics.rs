//! Panics of what runs in a simulation. tokio keeps them within their task, where nobody
//! would hear of them; here each is noted for the run of its thread.

use std::{cell::RefCell, panic, sync::Once};

thread_local! {
    /// What was heard in the run of this thread; none where none is under way.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Hears panics of this thread until dropped. Runs of one thread follow each other.
#[derive(Debug)]
pub(super) struct Listening(());

impl Listening {
    pub(super) fn begin() -> Self {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                let said = info.payload_as_str().unwrap_or("no words");
                let place = info.location().map(ToString::to_string);
                let place = place.unwrap_or_else(|| "somewhere".to_owned());
                let is_noted = HEARD.with_borrow_mut(|heard| match heard {
                    Some(heard) => {
                        heard.push(format!("{place}: {said}"));
                        true
                    }
                    None => false,
                });
                if !is_noted {
                    before(info);
                }
            }));
        });
        HEARD.set(Some(Vec::new()));
        Self(())
    }

    /// What was heard since the last call.
    #[expect(clippy::unused_self, reason = "who asks is listening")]
    pub(super) fn take(&self) -> Vec<String> {
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        HEARD.set(None);
    }
}
