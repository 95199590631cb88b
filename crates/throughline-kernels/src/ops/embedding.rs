//! Embedding: row `token` of a table `[V, F]`.
//!
//! Forward `out[n] = table[token[n]]`, so backward `d_table[token[n]] += d_out[n]`.

use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::reduce::Add;
use super::tasks::for_each_task;
use super::vectors::map;
use crate::disjoint::Disjoint;
use crate::threads::Threads;

/// Elements of a task of [`gather`], and about the fewest of a task of [`add_gradient`].
const TASK_ELEMENTS: usize = 1 << 16;
/// Columns of a task of [`add_gradient`] begin at multiples of this: a cache line of f32.
const LINE: usize = 16;

/// Copies row `tokens[n]` of `table` `[V, width]` to row n of `out` `[N, width]`.
///
/// # Panics
/// If a length does not fit or a token is V or more.
pub fn gather<E: Element>(threads: &Threads, table: &[E], width: usize, tokens: &[u32], out: &mut [E]) {
    check(table, width, tokens, out);
    let out = Disjoint::new(out);
    let chunk = (TASK_ELEMENTS / width).max(1);
    for_each_task(threads, tokens.len().div_ceil(chunk), |task| {
        let first = task * chunk;
        let tokens = &tokens[first..tokens.len().min(first + chunk)];
        // SAFETY: chunks of rows do not overlap, and each belongs to one task.
        let out = unsafe { out.slice(first * width..(first + tokens.len()) * width) };
        for (out, &token) in out.chunks_exact_mut(width).zip(tokens) {
            out.copy_from_slice(&table[token as usize * width..][..width]);
        }
    });
}

/// Adds row n of `d_out` `[N, width]` to row `tokens[n]` of `d_table` `[V, width]`, in ascending n. Threads split the
/// columns.
///
/// # Panics
/// If a length does not fit or a token is V or more.
pub fn add_gradient<E: Element>(
    isa: Isa,
    threads: &Threads,
    tokens: &[u32],
    d_out: &[E],
    width: usize,
    d_table: &mut [E],
) {
    check(d_table, width, tokens, d_out);
    let lines = width.div_ceil(LINE);
    let tasks = threads.count().min(lines).min(d_out.len().div_ceil(TASK_ELEMENTS));
    let d_table = Disjoint::new(d_table);
    for_each_task(threads, tasks, |task| {
        let columns = task * lines / tasks * LINE..width.min((task + 1) * lines / tasks * LINE);
        E::dispatch(isa, AddRows { tokens, d_out, width, columns, d_table: &d_table });
    });
}

/// The columns `columns` of the gradient, which no other task touches.
struct AddRows<'a, E> {
    tokens: &'a [u32],
    d_out: &'a [E],
    width: usize,
    columns: Range<usize>,
    d_table: &'a Disjoint<'a, E>,
}

impl<E: Element> Kernel<E> for AddRows<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Range { start, end } = self.columns;
        for (d_out, &token) in self.d_out.chunks_exact(self.width).zip(self.tokens) {
            let row = token as usize * self.width;
            // SAFETY: these columns belong to this task alone, which borrows one row of them at a time.
            let d_row = unsafe { self.d_table.slice(row + start..row + end) };
            map(lane, &Add, [d_row], [&d_out[start..end]]);
        }
    }
}

fn check<E>(table: &[E], width: usize, tokens: &[u32], out: &[E]) {
    assert!(width > 0 && table.len().is_multiple_of(width), "the table is [V, {width}], not [{}]", table.len());
    assert_eq!(out.len(), tokens.len() * width, "the rows are [N, {width}]");
    let rows = table.len() / width;
    assert!(tokens.iter().all(|&token| (token as usize) < rows), "a token is below {rows}, the rows of the table");
}

#[cfg(test)]
mod tests {
    use throughline_testkit::assert_same_bits;

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers, tokens};

    #[test]
    fn rows_are_copied_and_their_gradients_added_in_order() {
        for (rows, width, vocabulary) in [(0, 3, 5), (1, 1, 1), (5000, 37, 9), (3000, 64, 100)] {
            let table: Vec<f32> = numbers(1, vocabulary * width);
            let d_out: Vec<f32> = numbers(2, rows * width);
            let before: Vec<f32> = numbers(3, vocabulary * width);
            let tokens = tokens(4, rows, vocabulary);
            let mut want = before.clone();
            for (n, &token) in tokens.iter().enumerate() {
                for j in 0..width {
                    want[token as usize * width + j] += d_out[n * width + j];
                }
            }
            for_every_setting(|isa, threads| {
                let mut out = vec![f32::NAN; rows * width];
                gather(threads, &table, width, &tokens, &mut out);
                for (out, &token) in out.chunks(width).zip(&tokens) {
                    assert_same_bits("row", out, &table[token as usize * width..][..width]);
                }
                let mut d_table = before.clone();
                add_gradient(isa, threads, &tokens, &d_out, width, &mut d_table);
                assert_same_bits("d_table", &d_table, &want);
            });
        }
    }

    #[test]
    #[should_panic(expected = "a token is below 2")]
    fn a_token_outside_the_table_is_refused() {
        gather(Threads::ONE, &[0.0f32; 6], 3, &[2], &mut [0.0; 3]);
    }
}
