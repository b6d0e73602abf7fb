//! Runs one model on request, so that another program can interleave it with other runtimes: `scripts/against_ort.py`.
//!
//!     against_ort MODEL.onnx [ISA]
//!
//! Commands, one per line on standard input: `input NAME FILE` (raw little-endian f32), `run N` (prints N durations in ns),
//! `output I FILE` (writes raw f32), `layers N` (prints per step: median and least ns over N runs, kept units, all units, operators, name),
//! `quit`. Every answer is one line, or as many as `layers` says first.

use std::io::{BufRead, Write};
use std::time::Instant;

use secateur_engine::{Compiled, Engine, Isa};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: against_ort MODEL.onnx [ISA]")?;
    let engine = match arguments.next() {
        Some(name) => {
            let isa = [Isa::Plain, Isa::Avx2, Isa::Avx512, Isa::Neon].into_iter().find(|i| i.name() == name);
            Engine::with_isa(isa.ok_or("ISA is one of plain, avx2, avx512, neon")?)?
        }
        None => Engine::new(),
    };
    let model = graph::Model::load(&path)?;
    let mut compiled = match engine.compile(&model, &graph::InputShapes::batch(1)) {
        Ok(c) => c,
        Err(e) => {
            println!("error {e}");
            return Ok(());
        }
    };
    println!("ready {}", compiled.isa().name());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["input", name, file] => {
                let bytes = std::fs::read(file)?;
                let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
                compiled.set_input(name, &values)?;
                println!("ok");
            }
            ["run", n] => println!("{}", run(&mut compiled, n.parse()?)),
            ["output", i, file] => {
                let bytes: Vec<u8> = compiled.output(i.parse()?).iter().flat_map(|v| v.to_le_bytes()).collect();
                std::fs::write(file, bytes)?;
                println!("ok");
            }
            ["layers", n] => layers(&mut compiled, n.parse()?),
            ["quit"] => break,
            _ => println!("unknown command"),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn run(compiled: &mut Compiled, n: usize) -> String {
    let once = |_| {
        let start = Instant::now();
        compiled.run();
        start.elapsed().as_nanos().to_string()
    };
    (0..n).map(once).collect::<Vec<_>>().join(" ")
}

fn layers(compiled: &mut Compiled, n: usize) {
    let mut times = vec![Vec::with_capacity(n); compiled.layers().len()];
    for _ in 0..n {
        for (i, samples) in times.iter_mut().enumerate() {
            let start = Instant::now();
            compiled.run_step(i);
            samples.push(start.elapsed().as_nanos());
        }
    }
    println!("{}", times.len());
    for (layer, samples) in compiled.layers().iter().zip(&mut times) {
        samples.sort_unstable();
        let (kept, all) = layer.kept.unwrap_or((0, 0));
        let operators = if layer.operators.is_empty() { "input".to_owned() } else { layer.operators.join("+") };
        println!("{} {} {kept} {all} {operators} {}", samples[n / 2], samples[0], layer.name);
    }
}
