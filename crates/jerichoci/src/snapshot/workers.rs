//! Work on a list by several threads, with the answers in the list's order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Most threads: beyond that file systems gain little.
const THREADS_MAX: usize = 8;
/// Items that one thread takes at a time; neighbours share their folder.
const CHUNK: usize = 128;

/// Calls `each` for every item. Each thread has a state of its own, made by `begin`. The first error ends it.
pub(super) fn map<T, S, R, E>(
    items: &[T],
    begin: impl Fn() -> S + Sync,
    each: impl Fn(&mut S, &T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: Send,
{
    let chunks = items.len().div_ceil(CHUNK);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(THREADS_MAX).min(chunks);
    if threads <= 1 {
        let mut state = begin();
        return items.iter().map(|item| each(&mut state, item)).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let answers: Mutex<Vec<(usize, Vec<R>)>> = Mutex::new(Vec::with_capacity(chunks));
    let work = || -> Result<(), E> {
        let mut state = begin();
        while !failed.load(Ordering::Relaxed) {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            let Some(rest) = items.get(chunk * CHUNK..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let some = &rest[..rest.len().min(CHUNK)];
            let done: Result<Vec<R>, E> = some.iter().map(|item| each(&mut state, item)).collect();
            let done = done.inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            match answers.lock() {
                Ok(mut answers) => answers.push((chunk, done)),
                Err(poisoned) => poisoned.into_inner().push((chunk, done)),
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut ended = work();
        for other in others {
            match other.join() {
                Ok(other) => ended = ended.and(other),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        ended
    })?;
    let mut answers = answers
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    answers.sort_unstable_by_key(|(chunk, _)| *chunk);
    Ok(answers.into_iter().flat_map(|(_, done)| done).collect())
}

#[cfg(test)]
mod tests {
    use super::map;

    #[test]
    fn answers_come_in_the_order_of_the_list() {
        let items: Vec<usize> = (0..10_000).collect();
        let doubled: Result<Vec<usize>, ()> = map(&items, || (), |(), item| Ok(item * 2));
        let wanted: Vec<usize> = items.iter().map(|item| item * 2).collect();
        assert_eq!(doubled, Ok(wanted));
    }

    #[test]
    fn an_error_is_told() {
        let items: Vec<usize> = (0..10_000).collect();
        let failed = map(
            &items,
            || (),
            |(), item| match item {
                7_777 => Err(*item),
                _ => Ok(()),
            },
        );
        assert_eq!(failed, Err(7_777));
    }
}
