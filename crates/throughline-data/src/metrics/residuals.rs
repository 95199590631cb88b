//! Metrics of predicted numbers.

/// How near predicted numbers come to the true ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regressed {
    /// The mean of |prediction - truth|.
    pub mean_absolute: f64,
    /// The root of the mean of (prediction - truth)².
    pub root_mean_squared: f64,
    /// The coefficient of determination, 1 - sum of (truth - prediction)² / sum of (truth - mean)²: 1 for exact predictions, 0
    /// for those of the mean, below for worse ones. `None` where the truth does not vary.
    pub r2: Option<f64>,
}

impl Regressed {
    /// Of `predictions` of numbers that are `truth`.
    ///
    /// # Panics
    /// If the lengths differ or are 0.
    pub fn of(truth: &[f64], predictions: &[f64]) -> Self {
        assert_eq!(truth.len(), predictions.len(), "a prediction of every number");
        assert!(!truth.is_empty(), "at least one number");
        let count = truth.len() as f64;
        let residuals = || truth.iter().zip(predictions).map(|(truth, prediction)| prediction - truth);
        let squares: f64 = residuals().map(|residual| residual * residual).sum();
        let mean = truth.iter().sum::<f64>() / count;
        let spread: f64 = truth.iter().map(|truth| (truth - mean).powi(2)).sum();
        let varies = truth.iter().any(|number| *number != truth[0]);
        Self {
            mean_absolute: residuals().map(f64::abs).sum::<f64>() / count,
            root_mean_squared: (squares / count).sqrt(),
            r2: varies.then(|| 1.0 - squares / spread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of scikit-learn's `mean_absolute_error`, `root_mean_squared_error` and `r2_score`.
    #[test]
    fn scores_are_those_of_the_definitions() {
        let scores = Regressed::of(&[3.0, -0.5, 2.0, 7.0], &[2.5, 0.0, 2.0, 8.0]);
        let want =
            Regressed { mean_absolute: 0.5, root_mean_squared: 0.375f64.sqrt(), r2: Some(0.948_608_137_044_967_9) };
        assert!((scores.r2.unwrap() - want.r2.unwrap()).abs() < 1e-15, "{scores:?}");
        assert_eq!(Regressed { r2: want.r2, ..scores }, want);
        let mean = Regressed::of(&[1.0, 3.0], &[2.0, 2.0]);
        assert_eq!((mean.r2, mean.mean_absolute), (Some(0.0), 1.0));
        assert_eq!(Regressed::of(&[0.1, 0.1, 0.1], &[0.1, 0.1, 1.1]).r2, None);
    }
}
