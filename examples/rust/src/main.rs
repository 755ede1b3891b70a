//! Where does an image classifier look? A Backlit file, run with ONNX Runtime's C API.
//!
//! saliency MODEL IMAGE.ppm OUT     OUT.ppm: the picture beside its saliency map
//!                                  OUT.pfm: the map itself, float32 (portable float map)

mod json;
mod ort;
mod picture;

use json::Json;
use picture::Picture;

fn run(model: &str, photo: &str, out: &str) -> Result<(), String> {
    let session = ort::Session::open(model)?;
    let metadata = session.metadata("backlit")?;
    let metadata =
        Json::parse(&metadata.ok_or("not a Backlit file: first backlit export MODEL -o FILE")?)?;
    let image = metadata.get("image");
    if metadata.get("schema") != &Json::Number(2.0) {
        return Err(format!("metadata of another schema: {:?}", metadata.get("schema")));
    }
    if image.get("dtype").text() != Some("uint8") {
        return Err("takes no pixels: export it with --input uint8".into());
    }

    let picture = Picture::read_ppm(photo)?.prepared(image)?;
    let shape = [1, picture.height as i64, picture.width as i64, picture.channels as i64];
    let inputs = [
        ("image", ort::Value::new(&picture.pixels, &shape)?),
        ("class_index", ort::Value::new(&[-1i64], &[1, 1])?), // -1: the best-scoring class
    ];
    let found = session.run(&inputs, &["class", "score", "saliency"])?;
    let (class, score) = (found[0].data::<i64>()?[0], found[1].data::<f32>()?[0]);
    let map = found[2].data::<f32>()?; // [1,1,H,W]

    let labels = metadata.get("labels").list().unwrap_or(&[]);
    let label = labels.get(class as usize).and_then(Json::text).unwrap_or("?");
    println!("{class} {score} {label}");
    picture.beside(map).write_ppm(&format!("{out}.ppm"))?;
    // PFM: a header of text, then float32, rows from the BOTTOM; -1 means little endian.
    let mut bytes = format!("Pf\n{} {}\n-1.0\n", picture.width, picture.height).into_bytes();
    bytes.extend(map.chunks(picture.width).rev().flatten().flat_map(|value| value.to_le_bytes()));
    std::fs::write(format!("{out}.pfm"), bytes).map_err(|error| format!("{out}.pfm: {error}"))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, photo, out] = &arguments[..] else {
        eprintln!("usage: saliency MODEL IMAGE.ppm OUT   (writes OUT.ppm and OUT.pfm)");
        std::process::exit(2);
    };
    if let Err(error) = run(model, photo, out) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}
