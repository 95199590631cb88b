//! `throughline lr-find`

use std::borrow::Cow;

use anyhow::{Result, bail};
use throughline::train::recipe::Schedule;
use throughline::train::{self, RangeTest, RateRange, check_replaceable};

use super::given::recipe;
use crate::arguments::LrFindArguments;
use crate::output::{Output, csv, note, say};
use crate::plot::{curve, width};

pub fn run(arguments: &LrFindArguments) -> Result<()> {
    let LrFindArguments { given, from, to, updates, out } = arguments;
    if from >= to {
        bail!("--from: expected a rate below that of --to, {to}, found {from}");
    }
    if let Some(set) = given.set.iter().find(|set| set.trim_start().starts_with("schedule.")) {
        bail!("--set: {set}: expected no schedule, as the rate of this test rises from --from to --to, found one");
    }
    if let Some(path) = out {
        check_replaceable(path)?;
    }
    let recipe = recipe(given, &given.set, false)?;
    if recipe.schedule != Schedule::default() {
        note("the recipe's schedule has no part in this test: the rate rises in every update");
    }
    let bar = super::bar(*updates);
    let test = train::find_learning_rate(recipe, RateRange { from: *from, to: *to, updates: *updates }, &mut |row| {
        bar.set_position(row.update + 1);
        bar.set_message(format!("rate {:.2e}  loss {:.3}", row.learning_rate, row.smoothed));
    });
    bar.finish_and_clear();
    let test = test?;
    if out.is_some() {
        Output::open(out.as_deref(), |output| Ok(output.text(&table(&test)?)?))?;
    }
    Ok(say(&(picture(&test) + &advice(&test)))?)
}

fn table(test: &RangeTest) -> Result<String> {
    let head = ["update", "learning_rate", "loss", "smoothed_loss"].map(Cow::Borrowed).to_vec();
    let rows = test.rows.iter().map(|row| {
        let numbers = [row.learning_rate, row.loss, row.smoothed].map(|number| number.to_string());
        std::iter::once(row.update.to_string()).chain(numbers).map(Cow::Owned).collect()
    });
    csv(std::iter::once(head).chain(rows))
}

/// The smoothed loss against the logarithm of the rate.
fn picture(test: &RangeTest) -> String {
    let (Some(first), Some(last)) = (test.rows.first(), test.rows.last()) else { return String::new() };
    let point = |row: &train::RangeRow| (row.learning_rate.ln(), row.smoothed);
    let points: Vec<(f64, f64)> = test.rows.iter().map(point).collect();
    // The rise at the end would flatten all that is before it.
    let before = test.lowest().map_or(0, |lowest| lowest.update as usize);
    let top = points[..=before].iter().map(|&(_, loss)| loss).fold(f64::NEG_INFINITY, f64::max);
    let ends = [first, last].map(|row| format!("{:.1e}", row.learning_rate));
    let mark = test.steepest().map(|row| row.learning_rate.ln());
    "smoothed loss by learning rate\n".to_owned() + &curve(&points, top, mark, [&ends[0], &ends[1]], width())
}

/// What rate to take, and why.
fn advice(test: &RangeTest) -> String {
    let (Some(steepest), Some(lowest)) = (test.steepest(), test.lowest()) else {
        return "no suggestion: the loss falls at none of these rates; try others with --from and --to, or more --updates\n"
            .to_owned();
    };
    let (steepest, tenth) = (steepest.learning_rate, lowest.learning_rate / 10.0);
    let mut text = format!(
        "the loss falls fastest at {steepest:.1e}; a tenth of the rate where it is lowest, {:.1e}, is {tenth:.1e}\n\
         suggestion: optimiser.learning_rate = {:.1e}, the smaller of the two\n",
        lowest.learning_rate,
        steepest.min(tenth)
    );
    if !test.diverged && Some(lowest) == test.rows.last() {
        text += "the loss was still falling at the highest rate: a higher --to would show more\n";
    }
    text
}
