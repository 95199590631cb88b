//! What a run keeps of its numbers: the best parameters, and all that it needs to go on.

use throughline_infer::kind_json;
use throughline_nn::weights;

use super::Trainer;
use super::kept::Kept;
use crate::learn::{Learn, state_tensors};
use crate::run::checkpoint;
use crate::{Error, Result, RunFolder, read_at_most, write_atomically};

impl<L: Learn> Trainer<L> {
    pub(super) fn save_model(&self, folder: &RunFolder) -> Result<()> {
        let kind = kind_json::<L::Serve>(&self.network);
        write_atomically(&folder.model(), &weights::save(&kind, self.network.layout(), &self.parameters))
    }

    /// Takes back the parameters that were kept.
    pub(super) fn load_model(&mut self, folder: &RunFolder) -> Result<()> {
        let (path, layout) = (folder.model(), self.network.layout());
        let bytes = read_at_most(&path, weights::size_limit(layout))?;
        let kind = kind_json::<L::Serve>(&self.network);
        weights::load(&kind, layout, &bytes, &mut self.parameters)
            .map_err(|error| Error::file(&path, "model", "the best model of this run", error))?;
        self.network.pack(&self.cpu, &self.parameters, &mut self.packed);
        Ok(())
    }

    /// The arrays of a checkpoint.
    fn tensors(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        let shape = vec![self.network.layout().length()];
        let mut tensors = vec![("parameters".to_owned(), shape.clone(), &self.parameters[..])];
        let moments = self.optimiser.state();
        tensors.extend(moments.iter().map(|(name, moment)| (format!("optimiser.{name}"), shape.clone(), *moment)));
        if let Some(average) = &self.average {
            tensors.push(("average".to_owned(), shape.clone(), average.values()));
        }
        if let Some(kept) = &self.kept {
            let names: Vec<String> = tensors.iter().map(|(name, ..)| format!("kept.{name}")).collect();
            tensors.extend(names.into_iter().zip(kept.arrays()).map(|(name, kept)| (name, shape.clone(), kept)));
        }
        tensors.extend(self.data.state().into_iter().flat_map(state_tensors));
        tensors
    }

    pub(super) fn save_checkpoint(&self, folder: &RunFolder) -> Result<()> {
        checkpoint::save(&folder.checkpoint(), &self.progress, &self.tensors())
    }

    pub(super) fn load_checkpoint(&mut self, folder: &RunFolder) -> Result<()> {
        let path = folder.checkpoint();
        let expected: Vec<(String, Vec<usize>)> =
            self.tensors().into_iter().map(|(name, shape, _)| (name, shape)).collect();
        // Other data may make another model, so the data are compared first.
        checkpoint::peek(&path)?.check_origin(&path, &self.progress.data, &self.progress.recipe_digest)?;
        let (progress, tensors) = checkpoint::load(&path, &expected)?;
        progress.check_place(&path, self.updates_per_epoch())?;
        let mut tensors = tensors.into_iter();
        self.parameters.copy_from_slice(&tensors.next().expect("the parameters"));
        for (_, moment) in self.optimiser.state_mut() {
            moment.copy_from_slice(&tensors.next().expect("every moment"));
        }
        if let Some(average) = &mut self.average {
            average.values_mut().copy_from_slice(&tensors.next().expect("the average"));
            average.set_count(progress.counts.average);
        }
        for array in self.kept.iter_mut().flat_map(Kept::arrays_mut) {
            array.copy_from_slice(&tensors.next().expect("what was kept"));
        }
        if let Some(state) = self.data.state_mut() {
            for (array, values) in state.arrays_mut().iter_mut().zip(tensors) {
                array.values_mut().copy_from_slice(&values);
            }
            state.begin();
        }
        self.optimiser.set_updates(progress.counts.moments);
        self.kept.iter_mut().for_each(|kept| kept.set_counts(progress.kept_counts));
        self.progress = progress;
        self.network.pack(&self.cpu, &self.parameters, &mut self.packed);
        Ok(())
    }
}
