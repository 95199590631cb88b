//! What an input changes where it is known how far the network remembers.

use throughline_inspect::interventions;
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::RecurrentConfig;

use crate::common::stepwise;

#[test]
fn without_recurrent_weights_only_the_last_input_counts() {
    let mut model = stepwise::<f32>(RecurrentConfig::new(CellKind::RnnTanh, 3, 4), &[9, 9, 3, 0]);
    model.change("rnn.weight_hh_l0", |_, _| 0.0);
    let effects = interventions(model.subject(), &model.x);
    assert_eq!(
        effects.iter().map(|effect| (effect.lag, effect.sequences)).collect::<Vec<_>>(),
        [(0, 3), (1, 3), (2, 3), (4, 2), (8, 2)]
    );
    assert!(effects[0].change.low > 0.0);
    assert!(effects[1..].iter().all(|effect| effect.change.high == 0.0), "{effects:?}");
}

#[test]
fn a_state_that_is_kept_remembers_the_first_input() {
    let mut model = stepwise::<f32>(RecurrentConfig::new(CellKind::Lstm, 3, 4), &[17, 17]);
    model.change("rnn.bias_ih_l0", |place, x| if (4..8).contains(&place) { 8.0 } else { x });
    let effects = interventions(model.subject(), &model.x);
    assert_eq!(effects.last().map(|effect| effect.lag), Some(16));
    assert!(effects.iter().all(|effect| effect.change.median > 1e-3), "{effects:?}");
}

#[test]
fn sequences_without_a_step_have_no_effect() {
    let model = stepwise::<f32>(RecurrentConfig::new(CellKind::Lstm, 3, 4), &[0, 0]);
    assert_eq!(interventions(model.subject(), &model.x), []);
}
