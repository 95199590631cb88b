//! `[model]` of tasks that answer once for each sequence: how the recurrent layers read it.

use throughline_nn::layers::Pooling;

use crate::recipe::settings;

settings! {
    /// In table `[model]`: how the recurrent layers read a sequence.
    pub struct Reading {
        /// Read in both directions.
        bidirectional: bool = true,
        /// What of the last layer the answer is predicted from: `"last-states"` (the state in which each direction ends),
        /// `"last"` (the output of each direction at the step that it reads last), `"mean"` or `"max"` (of the outputs at all
        /// steps) or `"attention"` (their mean with learned weights).
        pooling: Pooling = Pooling::LastStates,
    }
}
