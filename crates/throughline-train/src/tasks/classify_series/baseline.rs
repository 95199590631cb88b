//! What simple classifiers of series reach.

use throughline_data::{Split, Splits, majority_class};
use throughline_infer::tasks::classify_series::{LabelledSeries, confusion, metrics};

use crate::learn::Score;

/// Mean and deviation of each feature of a series `[T, I]`.
fn summary(features: usize, series: &[f32]) -> Vec<f64> {
    let steps = (series.len() / features) as f64;
    let of = |feature: usize| series.iter().skip(feature).step_by(features).map(|&number| f64::from(number));
    let mean = |feature: usize| of(feature).sum::<f64>() / steps;
    let deviation = |feature: usize| {
        let mean = mean(feature);
        (of(feature).map(|number| (number - mean).powi(2)).sum::<f64>() / steps).sqrt()
    };
    (0..features).map(mean).chain((0..features).map(deviation)).collect()
}

/// The centre of each class: the mean of the summaries of its series.
fn centres(features: usize, classes: usize, train: &LabelledSeries) -> Vec<Vec<f64>> {
    let mut sums = vec![vec![0.0; 2 * features]; classes];
    let mut counts = vec![0.0; classes];
    for (series, &class) in train.series.iter().zip(&train.classes) {
        let sum = &mut sums[class as usize];
        sum.iter_mut().zip(summary(features, series)).for_each(|(sum, number)| *sum += number);
        counts[class as usize] += 1.0;
    }
    sums.into_iter().zip(counts).map(|(sum, count)| sum.into_iter().map(|number| number / count).collect()).collect()
}

/// The scores of the majority class, and of the class whose centre is nearest to the mean and deviation of the features.
pub(super) fn scores(features: usize, labels: &[String], splits: &Splits<LabelledSeries>) -> Vec<Score> {
    let majority = majority_class(&splits.train.classes).map_or(0, |(class, _)| class);
    let centres = centres(features, labels.len(), &splits.train);
    let nearest = |series: &Vec<f32>| -> u32 {
        let summary = summary(features, series);
        let distance = |centre: &Vec<f64>| -> f64 { centre.iter().zip(&summary).map(|(a, b)| (a - b).powi(2)).sum() };
        let distances: Vec<f64> = centres.iter().map(distance).collect();
        (0..labels.len())
            .reduce(|best, class| if distances[class] < distances[best] { class } else { best })
            .unwrap_or(0) as u32
    };
    let mut scores = Vec::new();
    for split in [Split::Validation, Split::Test] {
        let set = splits.of(split);
        if set.series.is_empty() {
            continue;
        }
        let by_majority = vec![majority; set.series.len()];
        let by_centre: Vec<u32> = set.series.iter().map(nearest).collect();
        for (method, predictions) in [("majority class", by_majority), ("nearest mean and deviation", by_centre)] {
            let metrics = metrics(&confusion(labels, &set.classes, &predictions));
            scores.push(Score { method: method.to_owned(), split, metrics });
        }
    }
    scores
}
