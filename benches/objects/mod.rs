//! Label maps that distances, and losses over them, are measured on; `benches/distances.toml` says what they are.

/// Numbers from 0 to 1 that look random.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// An ellipsoid: where its middle lies and how far it reaches along each axis, as shares of the extents.
struct Ellipsoid {
    label: u8,
    middle: Vec<f64>,
    reach: Vec<f64>,
}

impl Ellipsoid {
    /// Labels the voxels of a volume that lie in it.
    fn fill(&self, extents: &[usize], labels: &mut [u8]) {
        let (width, rows) = (extents[extents.len() - 1], &extents[..extents.len() - 1]);
        let off =
            |axis: usize, x: usize| ((x as f64 / extents[axis] as f64 - self.middle[axis]) / self.reach[axis]).powi(2);
        for (row, labels) in labels.chunks_exact_mut(width).enumerate() {
            let mut rest = row;
            let mut across = 0.0;
            for (axis, extent) in rows.iter().enumerate().rev() {
                across += off(axis, rest % extent);
                rest /= extent;
            }
            if across <= 1.0 {
                let inside = |x: &usize| across + off(rows.len(), *x) <= 1.0;
                (0..width).filter(inside).for_each(|x| labels[x] = self.label);
            }
        }
    }
}

/// Labels `extents` of an object; `None` where none has this name.
pub(crate) fn labels(object: &str, extents: &[usize], classes: usize) -> Option<Vec<u8>> {
    let rank = extents.len();
    let mut labels = vec![0; extents.iter().product()];
    let mut noise = Noise(5);
    match object {
        "ball" => {
            Ellipsoid { label: 1, middle: vec![0.45; rank], reach: vec![0.3; rank] }.fill(extents, &mut labels);
        }
        "organs" => {
            // The same objects whatever the number of classes.
            for organ in 1..14 {
                for _ in 0..if organ % 3 == 0 { 3 } else { 1 } {
                    let middle = (0..rank).map(|_| noise.next()).collect();
                    let reach = (0..rank).map(|_| 0.05 + 0.15 * noise.next()).collect();
                    let label = (organ as usize).min(classes - 1) as u8;
                    Ellipsoid { label, middle, reach }.fill(extents, &mut labels);
                }
            }
        }
        "cells" => {
            // A sixth of an image and an eighth of a volume; where balls overlap they are one.
            let voxels: usize = extents.iter().product();
            for _ in 0..voxels.div_ceil(if rank < 3 { 600 } else { 6000 }) {
                let middle = (0..rank).map(|_| noise.next()).collect();
                let radius = 3.0 + 6.0 * noise.next();
                let reach = extents.iter().map(|extent| radius / *extent as f64).collect();
                let label = 1 + (noise.next() * (classes - 1) as f64) as u8;
                Ellipsoid { label, middle, reach }.fill(extents, &mut labels);
            }
        }
        "noise" => labels.iter_mut().for_each(|label| *label = u8::from(noise.next() < 0.5)),
        _ => return None,
    }
    Some(labels)
}
