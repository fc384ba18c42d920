//! Volumes: made where they are missing, never removed, never made anew.

use super::Build;
use crate::{
    model::Volume,
    plan::{Obstacle, Operation, labels, spec},
};

impl Build<'_> {
    pub(super) fn volumes(&mut self) {
        let stack = self.view.stack;
        for (key, volume) in &stack.volumes {
            let there = self.view.observed.volume(&volume.name);
            match there {
                None if volume.external => self.obstacle(Obstacle::Missing {
                    kind: "volume",
                    key: key.clone(),
                    name: volume.name.clone(),
                }),
                None => {
                    let operation = Operation::CreateVolume {
                        key: key.clone(),
                        name: volume.name.clone(),
                    };
                    let node = self.graph.add(operation, "it does not exist", &[]);
                    self.volumes.insert(key.clone(), node);
                }
                Some(_) if volume.external => {}
                Some(there) => self.judge(volume, there),
            }
        }
        for volume in &self.view.observed.volumes {
            let own = volume.labels.get(labels::STACK) == Some(&stack.name);
            let wanted = stack
                .volumes
                .values()
                .any(|wanted| wanted.name == volume.name);
            if own && !wanted {
                self.notes.push(format!(
                    "volume {} is no longer used by the stack: it stays, with what is on it",
                    volume.name
                ));
            }
        }
    }

    fn judge(&mut self, wanted: &Volume, there: &bollard_stubs::models::Volume) {
        let name = &wanted.name;
        if there.labels.get(labels::PROJECT) != Some(&self.view.stack.name) {
            self.notes.push(format!(
                "volume {name} exists and was not made for this stack: it is used as it is; \
                 declare it `external: true` to say that this is meant"
            ));
            return;
        }
        let changed = match there.labels.get(labels::HASH) {
            Some(hash) => *hash != spec::volume_hash(wanted),
            None => {
                let driver = wanted.driver.as_ref().is_some_and(|d| *d != there.driver);
                let options = &there.options;
                let same = |(key, value): (&String, &String)| options.get(key) == Some(value);
                driver || !wanted.driver_opts.iter().all(same)
            }
        };
        if changed {
            self.notes.push(format!(
                "the definition of volume {name} has changed: the volume stays as it is, with \
                 what is on it; to have the new definition, save its content and remove it"
            ));
        }
    }
}
