//! Data sets: what is read is what was written, splits are disjoint, bad files are named.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::Path;

use proptest::prelude::*;
use secateur_train::data::{Augment, DataSpec, Dataset, Layout, Normalization, Options, Split};

fn options(shape: [usize; 3]) -> Options {
    Options { shape, layout: Layout::ChannelsFirst, normalization: Normalization::raw255(), holdout: 0.2, seed: 0 }
}

fn cifar(dir: &Path, file: &str, labels: &[u8]) {
    let mut bytes = Vec::new();
    for (i, l) in labels.iter().enumerate() {
        bytes.push(*l);
        bytes.extend((0..3072).map(|p| ((p + i) % 251) as u8));
    }
    std::fs::write(dir.join(file), bytes).unwrap();
}

fn open_error(spec: &str, shape: [usize; 3]) -> String {
    Dataset::open(&spec.parse().unwrap(), options(shape)).unwrap_err().to_string()
}

#[test]
fn cifar_records_come_back_as_pixels_and_labels() {
    let dir = tempfile::tempdir().unwrap();
    cifar(dir.path(), "train.bin", &[1, 2, 3, 4, 5]);
    cifar(dir.path(), "test.bin", &[9, 8]);
    let data = Dataset::open(&DataSpec::Cifar10(dir.path().into()), options([3, 32, 32])).unwrap();
    assert_eq!([Split::Train, Split::Holdout, Split::Test].map(|s| data.len(s)), [4, 1, 2]);
    let batch = data.batch(Split::Test, 0..2).unwrap();
    assert_eq!((batch.shape.as_slice(), batch.labels.as_slice()), (&[2usize, 3, 32, 32][..], &[9u32, 8][..]));
    assert_eq!(batch.inputs[3072], f32::from(1u8));
    // The original archive's names are read too.
    let original = tempfile::tempdir().unwrap();
    for i in 1..=5 {
        cifar(original.path(), &format!("data_batch_{i}.bin"), &[i]);
    }
    cifar(original.path(), "test_batch.bin", &[0]);
    let data = Dataset::open(&DataSpec::Cifar10(original.path().into()), options([3, 32, 32])).unwrap();
    assert_eq!(data.len(Split::Train) + data.len(Split::Holdout), 5);
}

#[test]
fn bad_data_are_refused_by_name_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let spec = format!("cifar10:{}", dir.path().display());
    assert!(open_error(&spec, [3, 32, 32]).contains("test_batch.bin"));
    cifar(dir.path(), "train.bin", &[1, 2, 3]);
    cifar(dir.path(), "test.bin", &[1]);
    assert!(open_error(&spec, [3, 224, 224]).contains("the network wants [3, 224, 224]"));
    let mut file = std::fs::OpenOptions::new().append(true).open(dir.path().join("test.bin")).unwrap();
    file.write_all(&[1; 100]).unwrap();
    let error = open_error(&spec, [3, 32, 32]);
    assert!(error.contains("test.bin") && error.contains("truncated") && error.contains("copy it again"), "{error}");
    cifar(dir.path(), "test.bin", &[1, 77]);
    let error = open_error(&spec, [3, 32, 32]);
    assert!(error.contains("record 1 has label 77"), "{error}");
    std::fs::write(dir.path().join("test.bin"), []).unwrap();
    assert!(open_error(&spec, [3, 32, 32]).contains("empty"));
    let empty = tempfile::tempdir().unwrap();
    assert!(open_error(&format!("imagefolder:{}", empty.path().display()), [3, 32, 32]).contains("DIR/CLASS/IMAGE.jpg"));
    let broken = empty.path().join("x.npz");
    std::fs::write(&broken, b"not a zip").unwrap();
    assert!(open_error(&format!("npz:{}", broken.display()), [3, 32, 32]).contains("x.npz"));
    for text in ["mnist:dir", "cifar10:", "synthetic:a,b", "synthetic:5,0"] {
        assert!(text.parse::<DataSpec>().is_err(), "{text}");
    }
}

#[test]
fn folders_of_classes_are_read_and_prepared() {
    let dir = tempfile::tempdir().unwrap();
    for (class, grey) in [("a", 40u8), ("b", 200)] {
        std::fs::create_dir(dir.path().join(class)).unwrap();
        for i in 0..5 {
            let image = image::RgbImage::from_pixel(40, 36, image::Rgb([grey, grey / 2, 7]));
            image.save(dir.path().join(class).join(format!("{i}.png"))).unwrap();
        }
    }
    let data = Dataset::open(&DataSpec::ImageFolder(dir.path().into()), options([3, 32, 32])).unwrap();
    let batch = data.batch(Split::Train, 0..6).unwrap();
    for (i, label) in batch.labels.iter().enumerate() {
        let grey = [40.0, 200.0][*label as usize];
        assert_eq!([0, 1024, 2048].map(|c| batch.inputs[i * 3072 + c]), [grey, (grey as u8 / 2).into(), 7.0]);
    }
    std::fs::write(dir.path().join("a").join("0.png"), b"nothing").unwrap();
    let all = Dataset::open(&DataSpec::ImageFolder(dir.path().into()), Options { holdout: 0.0, ..options([3, 32, 32]) }).unwrap();
    let error = [Split::Train, Split::Test].into_iter().find_map(|s| all.batch(s, 0..10).err()).unwrap().to_string();
    assert!(error.contains("0.png") && error.contains("replace or remove"), "{error}");
}

#[test]
fn the_procedural_set_is_balanced_and_repeatable() {
    let spec: DataSpec = "synthetic:100,50,4".parse().unwrap();
    let open = || Dataset::open(&spec, options([3, 32, 32])).unwrap();
    let (a, b) = (open().batch(Split::Test, 0..50).unwrap(), open().batch(Split::Test, 0..50).unwrap());
    assert_eq!(a, b);
    assert!((0..10).all(|c| a.labels.iter().filter(|l| **l == c).count() == 5));
    assert_eq!(spec.to_string().parse::<DataSpec>().unwrap(), spec);
}

#[test]
fn channels_last_and_blue_first_permute_the_same_values() {
    let spec: DataSpec = "synthetic:20,10".parse().unwrap();
    let open = |layout, bgr| {
        let normalization = Normalization { bgr, ..Normalization::raw255() };
        let o = Options { layout, normalization, ..options([3, 32, 32]) };
        Dataset::open(&spec, o).unwrap().batch(Split::Test, 0..1).unwrap()
    };
    let (plain, last, bgr) = (open(Layout::ChannelsFirst, false), open(Layout::ChannelsLast, false), open(Layout::ChannelsFirst, true));
    assert_eq!(last.shape, [1, 32, 32, 3]);
    for p in 0..1024 {
        for c in 0..3 {
            assert_eq!(plain.inputs[c * 1024 + p], last.inputs[p * 3 + c]);
            assert_eq!(plain.inputs[c * 1024 + p], bgr.inputs[(2 - c) * 1024 + p]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn an_epoch_shows_every_training_image_once_and_none_of_the_others(seed in 0u64..1000, epoch in 0u64..5) {
        let data = Dataset::open(&"synthetic:60,20".parse().unwrap(), options([3, 32, 32])).unwrap();
        let sums = |inputs: &[f32]| -> Vec<u64> { inputs.chunks(3072).map(|i| i.iter().map(|v| *v as u64).sum()).collect() };
        let mut seen: Vec<u64> = Vec::new();
        for batch in data.epoch(Split::Train, 8, &Augment::none(), seed, epoch, 0).unwrap() {
            seen.extend(sums(&batch.unwrap().inputs));
        }
        let mut all = sums(&data.batch(Split::Train, 0..60).unwrap().inputs);
        seen.sort_unstable();
        all.sort_unstable();
        prop_assert_eq!(seen, all);
    }

    #[test]
    fn a_flip_mirrors_rows_or_leaves_them(seed in 0u64..1000) {
        let data = Dataset::open(&"synthetic:60,20".parse().unwrap(), options([3, 32, 32])).unwrap();
        let augment = Augment { pad_crop: None, flip: true, resized_crop: None };
        let flipped = data.epoch(Split::Train, 48, &augment, seed, 0, 0).unwrap().next().unwrap().unwrap();
        let plain = data.epoch(Split::Train, 48, &Augment::none(), seed, 0, 0).unwrap().next().unwrap().unwrap();
        prop_assert_eq!(&flipped.labels, &plain.labels);
        for (a, b) in flipped.inputs.chunks(32).zip(plain.inputs.chunks(32)) {
            let mirrored: Vec<f32> = b.iter().rev().copied().collect();
            prop_assert!(a == b || a == mirrored.as_slice());
        }
        let skipped = data.epoch(Split::Train, 8, &augment, seed, 0, 3).unwrap().next().unwrap().unwrap();
        let fourth = data.epoch(Split::Train, 8, &augment, seed, 0, 0).unwrap().nth(3).unwrap().unwrap();
        prop_assert_eq!(skipped, fourth);
    }

    #[test]
    fn a_padded_crop_is_one_of_the_crops_of_the_padded_image(seed in 0u64..1000, pad in 1usize..4) {
        let data = Dataset::open(&"synthetic:30,20".parse().unwrap(), options([3, 32, 32])).unwrap();
        let augment = Augment { pad_crop: Some(pad), flip: false, resized_crop: None };
        let cropped = data.epoch(Split::Train, 24, &augment, seed, 0, 0).unwrap().next().unwrap().unwrap();
        let plain = data.epoch(Split::Train, 24, &Augment::none(), seed, 0, 0).unwrap().next().unwrap().unwrap();
        let side = 32 + 2 * pad;
        for (cropped, plain) in cropped.inputs.chunks(3072).zip(plain.inputs.chunks(3072)) {
            let mut padded = vec![0.0; 3 * side * side];
            for (row, values) in plain.chunks(32).enumerate() {
                let at = (row / 32 * side + row % 32 + pad) * side + pad;
                padded[at..at + 32].copy_from_slice(values);
            }
            let is_at = |y: usize, x: usize| {
                let mut rows = cropped.chunks(32).enumerate();
                rows.all(|(row, values)| padded[(row / 32 * side + row % 32 + y) * side + x..][..32] == *values)
            };
            prop_assert!((0..=2 * pad).any(|y| (0..=2 * pad).any(|x| is_at(y, x))));
        }
    }
}

#[test]
fn labels_are_in_the_first_column_and_images_are_found_by_name_or_by_one_prefix() {
    let dir = tempfile::tempdir().unwrap();
    for (name, grey) in [("0003_a.png", 3), ("0003_b.png", 4), ("0007_c.png", 7)] {
        image::RgbImage::from_pixel(32, 32, image::Rgb([grey; 3])).save(dir.path().join(name)).unwrap();
    }
    let open = |csv: &str| {
        std::fs::write(dir.path().join("labels.csv"), csv).unwrap();
        Dataset::open(&DataSpec::ImageFolder(dir.path().into()), Options { holdout: 0.0, ..options([3, 32, 32]) })
    };
    // Grey levels with their labels, over all images.
    let pairs = |d: Dataset| {
        let mut all = Vec::new();
        for split in [Split::Train, Split::Test] {
            let batch = d.batch(split, 0..9).unwrap();
            all.extend(batch.inputs.chunks(3072).map(|i| i[0] as u32).zip(batch.labels));
        }
        all.sort_unstable();
        all
    };
    let named = pairs(open("label,crop,file\n3,12,0003_b.png\n3,9,0003_a.png\n7,1,0007_c.png\n").unwrap());
    assert_eq!(named, [(3, 3), (4, 3), (7, 7)]);
    assert_eq!(pairs(open("label\n7\n").unwrap()), [(7, 7)]);
    // The label of a row is not a number in a later column, nor does a prefix that two images have tell one of them.
    for (csv, line, cause) in [
        ("class,number\ncat,3\n", "line 2", "first column"),
        ("label,word\n7,x\n3,y\n", "line 3", "several images"),
        ("label\n5\n", "line 2", "no image"),
    ] {
        let error = open(csv).unwrap_err().to_string();
        assert!(error.contains("labels.csv") && error.contains(line) && error.contains(cause), "{error}");
    }
}

#[test]
fn the_imagenet_sample_is_read_with_a_label_per_class() {
    let Some(folder) = std::env::var_os("SECATEUR_DATA") else {
        eprintln!("skipped: SECATEUR_DATA is not set");
        return;
    };
    let folder = Path::new(&folder).join("imagenet-sample");
    let data = Dataset::open(&DataSpec::ImageFolder(folder), Options { holdout: 0.0, ..options([3, 224, 224]) }).unwrap();
    assert_eq!((data.classes(), data.len(Split::Train), data.len(Split::Test)), (1000, 800, 200));
}

#[test]
fn images_need_no_labels_and_say_so_where_labels_are_wanted() {
    use npyz::WriterBuilder as _;
    let dir = tempfile::tempdir().unwrap();
    for i in 0..10 {
        image::RgbImage::from_pixel(32, 32, image::Rgb([20 * i, 1, 2])).save(dir.path().join(format!("{i}.png"))).unwrap();
    }
    let data = Dataset::open(&DataSpec::ImageFolder(dir.path().into()), options([3, 32, 32])).unwrap();
    assert!(!data.labelled());
    assert_eq!([Split::Train, Split::Holdout, Split::Test].map(|s| data.len(s)), [6, 2, 2]);
    let batch = data.batch(Split::Train, 0..6).unwrap();
    assert_eq!((batch.len(), batch.labels.len(), batch.inputs.len()), (6, 0, 6 * 3072));
    assert!(data.check_classes(2).is_ok());
    let error = data.need_labels().unwrap_err().to_string();
    assert!(error.contains("no labels") && error.contains("labels.csv"), "{error}");

    let file = dir.path().join("x.npz");
    let mut npz = npyz::npz::NpzWriter::create(&file).unwrap();
    for (name, n) in [("x", 10u64), ("x_test", 4)] {
        let mut writer = npz.array(name, Default::default()).unwrap().default_dtype().shape(&[n, 3]).begin_nd().unwrap();
        writer.extend((0..n * 3).map(|v| v as f32)).unwrap();
        writer.finish().unwrap();
    }
    drop(npz);
    let data = Dataset::open(&DataSpec::Npz(file), Options { holdout: 0.0, ..options([1, 1, 3]) }).unwrap();
    assert!(!data.labelled());
    assert_eq!((data.len(Split::Train), data.len(Split::Test)), (10, 4));
    assert_eq!(data.batch(Split::Test, 1..2).unwrap().inputs, [3.0, 4.0, 5.0]);

    // What has labels can be read as if it had none.
    let spec: DataSpec = "synthetic:20,10,4".parse().unwrap();
    let with = Dataset::open(&spec, options([3, 32, 32])).unwrap();
    let without = Dataset::open_without_labels(&spec, options([3, 32, 32])).unwrap();
    assert!(with.labelled() && !without.labelled() && without.classes() == 0);
    assert_eq!(with.batch(Split::Train, 0..4).unwrap().inputs, without.batch(Split::Train, 0..4).unwrap().inputs);
}

#[test]
fn drawn_inputs_have_the_contrast_and_roughness_asked_for() {
    use secateur_train::data::Texture;
    let draw = |texture, seed| Dataset::drawn(options([3, 32, 32]), texture, 40, seed).unwrap().batch(Split::Train, 0..20).unwrap();
    // Standard deviation of images, and mean step between neighbours as a share of it.
    let look = |roughness, contrast| {
        let batch = draw(Texture { roughness, contrast }, 1);
        let (mut deviation, mut step) = (0.0, 0.0);
        for plane in batch.inputs.chunks_exact(1024) {
            let mean = plane.iter().sum::<f32>() / 1024.0;
            deviation += (plane.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1024.0).sqrt();
            step += plane.chunks_exact(32).flat_map(|r| r.windows(2)).map(|w| (w[0] - w[1]).abs()).sum::<f32>() / 992.0;
        }
        (deviation / 60.0, step / deviation)
    };
    let ((low, smooth), (high, rough)) = (look(0.4, 30.0), look(1.0, 60.0));
    assert!(low > 5.0 && high > 1.5 * low && rough > 2.0 * smooth, "{low} {high} {smooth} {rough}");
    assert_eq!(draw(Texture::default(), 3), draw(Texture::default(), 3));
    assert_ne!(draw(Texture::default(), 3), draw(Texture::default(), 4));
    for text in ["drawn:5", "drawn:x", "drawn:30,1,1"] {
        assert!(text.parse::<DataSpec>().is_err(), "{text}");
    }
}
