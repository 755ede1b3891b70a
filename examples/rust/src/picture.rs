//! Pictures as PPM files, at another size, and a map in colour. In a project of your own the crate
//! image reads every format; its resize differs from Pillow's by a level here and there.

use crate::json::Json;

/// Pixels of 8 bits, rows from the top, channels interleaved: as `image` takes them.
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub pixels: Vec<u8>,
}

impl Picture {
    /// A binary PPM (P6, 255): `convert photo.jpg photo.ppm` makes one.
    pub fn read_ppm(path: &str) -> Result<Picture, String> {
        let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        let (mut at, mut numbers) = (2, Vec::new());
        while bytes.starts_with(b"P6") && numbers.len() < 3 && at < bytes.len() {
            if bytes[at] == b'#' {
                at += bytes[at..].iter().take_while(|byte| **byte != b'\n').count();
            }
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits > 0 {
                let text = String::from_utf8_lossy(&bytes[at..at + digits]);
                numbers.push(text.parse::<usize>().map_err(|error| format!("{path}: {error}"))?);
            }
            at += digits.max(1);
        }
        let [width, height, 255] = numbers[..] else {
            return Err(format!("{path} is no binary PPM of 8 bits"));
        };
        let pixels = bytes.get(at + 1..).unwrap_or(&[]).to_vec();
        if pixels.is_empty()
            || Some(pixels.len()) != width.checked_mul(height).and_then(|n| n.checked_mul(3))
        {
            return Err(format!("{path} is damaged: not {width}x{height} pixels"));
        }
        Ok(Picture { width, height, channels: 3, pixels })
    }

    pub fn write_ppm(&self, path: &str) -> Result<(), String> {
        let mut bytes = format!("P6\n{} {}\n255\n", self.width, self.height).into_bytes();
        bytes.extend_from_slice(&self.pixels);
        std::fs::write(path, bytes).map_err(|error| format!("{path}: {error}"))
    }

    /// As the classifier takes it: the metadata's "image" says which size and how.
    pub fn prepared(&self, image: &Json) -> Result<Picture, String> {
        let number = |key| image.get(key).number();
        let (width, height) = (number("width")? as usize, number("height")? as usize);
        let (mut wide, mut high) = (width, height); // "stretch": all of it, whatever its shape
        if image.get("resize").text() == Some("crop") {
            // Cover the size over crop_fraction, then cut the centre.
            let cover = |side: usize, fraction: f64| side.max(even(side as f64 / fraction));
            let fraction = number("crop_fraction")?;
            (wide, high) = (cover(width, fraction), cover(height, fraction));
            if self.width * high >= self.height * wide {
                wide = wide.max(high * self.width / self.height);
            } else {
                high = high.max(wide * self.height / self.width);
            }
        }
        let cubic = image.get("interpolation").text() == Some("bicubic");
        let whole = self.resampled(wide, true, cubic).resampled(high, false, cubic);
        let (left, top) = (even((wide - width) as f64 / 2.0), even((high - height) as f64 / 2.0));
        let rows = (top..top + height).flat_map(|y| {
            let start = (y * wide + left) * 3;
            &whole.pixels[start..start + width * 3]
        });
        let mut pixels: Vec<u8> = rows.copied().collect();
        let channels = number("channels")? as usize;
        if channels == 1 {
            pixels = pixels.chunks(3).map(grey).collect();
        }
        Ok(Picture { width, height, channels, pixels })
    }

    /// One side, `across` or down, at another size. As in Pillow the kernel is stretched to the
    /// step (which is antialiasing) and its weights have 22 bits: the pixels are the same.
    fn resampled(&self, size: usize, across: bool, cubic: bool) -> Picture {
        let (length, lines) =
            if across { (self.width, self.height) } else { (self.height, self.width) };
        let (width, height) = if across { (size, lines) } else { (lines, size) };
        let channels = self.channels;
        let mut pixels = vec![0; width * height * channels];
        let step = length as f64 / size as f64;
        let (shrink, reach) = (1.0 / step.max(1.0), if cubic { 2.0 } else { 1.0 } * step.max(1.0));
        for target in 0..size {
            let centre = (target as f64 + 0.5) * step;
            let first = (centre - reach + 0.5) as usize; // below zero becomes zero
            let last = length.min((centre + reach + 0.5) as usize);
            let weights: Vec<f64> =
                (first..last).map(|i| kernel((i as f64 - centre + 0.5) * shrink, cubic)).collect();
            let total: f64 = weights.iter().sum();
            let fixed: Vec<i32> =
                weights.iter().map(|weight| (weight / total * 4194304.0).round() as i32).collect();
            for line in 0..lines {
                let index = |along, length| {
                    if across {
                        line * length + along
                    } else {
                        along * lines + line
                    }
                };
                for c in 0..channels {
                    let value = |i| i32::from(self.pixels[index(i, length) * channels + c]);
                    let terms = (first..last).map(|i| fixed[i - first] * value(i));
                    let sum: i32 = (1 << 21) + terms.sum::<i32>();
                    pixels[index(target, size) * channels + c] = (sum >> 22).clamp(0, 255) as u8;
                }
            }
        }
        Picture { width, height, channels, pixels }
    }

    /// The picture on the left and the map [H,W] on the right; the map's 99 % quantile is the
    /// brightest colour, so that single spikes do not leave the rest black.
    pub fn beside(&self, map: &[f32]) -> Picture {
        let mut sorted = map.to_vec();
        sorted.sort_by(f32::total_cmp);
        let top = sorted[(0.99 * (sorted.len() - 1) as f64) as usize].max(1e-20);
        let mut pixels = Vec::new();
        for y in 0..self.height {
            let row = &self.pixels[y * self.width * self.channels..][..self.width * self.channels];
            pixels.extend(
                row.chunks(self.channels).flat_map(|p| [p[0], p[p.len() / 2], p[p.len() - 1]]),
            );
            pixels.extend(
                map[y * self.width..][..self.width].iter().flat_map(|value| colour(value / top)),
            );
        }
        Picture { width: 2 * self.width, height: self.height, channels: 3, pixels }
    }
}

/// The nearest whole number, the even one of two.
fn even(x: f64) -> usize {
    x.round_ties_even() as usize
}

/// ITU-R 601 luma.
fn grey(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16) as u8
}

/// Pillow's kernels, at x in pixels: the triangle, and Keys' cubic with a = -1/2.
fn kernel(x: f64, cubic: bool) -> f64 {
    match (cubic, x.abs()) {
        (false, x) => (1.0 - x).max(0.0),
        (true, x) if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        (true, x) if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    }
}

/// Black, purple, orange, pale yellow, for 0 to 1.
fn colour(level: f32) -> [u8; 3] {
    const STOPS: [[f32; 3]; 5] =
        [[0., 0., 4.], [87., 16., 110.], [188., 55., 84.], [249., 142., 9.], [252., 255., 164.]];
    let place = 4.0 * level.clamp(0.0, 1.0);
    let below = (place as usize).min(3);
    let (from, to) = (STOPS[below], STOPS[below + 1]);
    [0, 1, 2].map(|c| (from[c] + (place - below as f32) * (to[c] - from[c])).round() as u8)
}
