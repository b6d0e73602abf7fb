//! The curves as pictures, in one self-contained page.

use latency::staircase::{Kept, Kind};
use plotters::prelude::*;
use serde::Serialize;

use super::{Curve, GroupStaircase, Staircases};
use crate::error::{Error, Result};

/// Size of a picture, pixels.
const SIZE: (u32, u32) = (560, 320);
const CURVE: RGBColor = RGBColor(70, 110, 160);
const MODEL: RGBColor = RGBColor(200, 140, 40);
const KEPT: RGBColor = RGBColor(190, 40, 60);

/// What one picture shows; widths against seconds.
struct Picture<'a> {
    label: &'a str,
    curve: Vec<(usize, f64)>,
    model: Option<Vec<(usize, f64)>>,
    /// Width, low end, estimate, high end.
    points: Vec<(usize, f64, f64, f64)>,
    kept: &'a [Kept],
}

#[derive(Serialize)]
struct Figure {
    title: String,
    caption: String,
    svg: String,
    edges: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    width: usize,
    latency_ms: f64,
    low_ms: f64,
    high_ms: f64,
    rise: String,
    certain: bool,
}

impl Staircases {
    /// A page with one picture per group and per layer's curve: latency against channels, measured points with their
    /// intervals, kept widths, the fitted model of tiles. It needs nothing but itself.
    ///
    /// # Errors
    /// A defect of the template or of the drawing.
    pub fn html(&self, network: &str, target: &str, machine: &str) -> Result<String> {
        let groups = self.groups.iter().map(|g| self.group_figure(g)).collect::<Result<Vec<_>>>()?;
        let layers = self.curves.iter().map(curve_figure).collect::<Result<Vec<_>>>()?;
        let broken = |e: minijinja::Error| Error::Setting(format!("the template of the staircases is broken: {e:#}"));
        let mut env = minijinja::Environment::new();
        env.add_filter("ms", |v: f64| format!("{v:.4}"));
        env.add_template("staircases.html", include_str!("staircases.html")).map_err(broken)?;
        let page = env.get_template("staircases.html").map_err(broken)?;
        page.render(minijinja::context! {
            network, target, machine,
            probes => self.probes, exhaustive => self.exhaustive,
            share => format!("{:.1}", 100.0 * self.probes as f64 / self.exhaustive.max(1) as f64),
            delta => format!("{:.1}", 100.0 * self.delta), noise => format!("{:.2}", 100.0 * self.noise),
            groups => minijinja::value::Serde(groups), layers => minijinja::value::Serde(layers),
        })
        .map_err(broken)
    }

    fn group_figure(&self, g: &GroupStaircase) -> Result<Figure> {
        let picture = Picture {
            label: "channels of the group",
            curve: g.latency_s.iter().enumerate().map(|(k, s)| (k + 1, *s)).collect(),
            model: None,
            points: Vec::new(),
            kept: &g.edges,
        };
        let caption = format!("{} layers, sum; {} of {} counts kept", g.curves.len(), g.kept.len(), g.size);
        Ok(Figure { title: g.name.clone(), caption, svg: picture.draw()?, edges: rows(&g.edges) })
    }
}

fn curve_figure(c: &Curve) -> Result<Figure> {
    let s = &c.staircase;
    let picture = Picture {
        label: "channels",
        curve: (1..=s.channels).map(|w| (w, s.latency_s(w))).collect(),
        model: c.fit.map(|m| (1..=s.channels).map(|w| (w, m.latency_s(w))).collect()),
        points: s.points.iter().map(|p| (p.width, p.ci.0, p.latency_s, p.ci.1)).collect(),
        kept: &s.edges,
    };
    let [(i1, o1), (i, o)] = c.widths;
    let model = c.fit.map_or("no model of tiles fits".to_owned(), |m| match m.slots {
        1 if m.tile == 1 => format!("a line fits, residual {:.1} %", 100.0 * m.residual),
        1 => format!("tiles of {} fit, residual {:.1} %", m.tile, 100.0 * m.residual),
        n => format!("tiles of {} channels × {} in waves of {n} fit, residual {:.1} %", m.tile, m.row_tiles, 100.0 * m.residual),
    });
    let caption = format!("{i1}→{o1} to {i}→{o}; {} probes for {} counts; {model}; shared by {}", s.probes, s.channels, c.shared);
    Ok(Figure { title: format!("{}, {}", c.layer, c.side), caption, svg: picture.draw()?, edges: rows(&s.edges) })
}

fn rows(edges: &[Kept]) -> Vec<Row> {
    let row = |e: &Kept| Row {
        width: e.width,
        latency_ms: e.latency_s * 1e3,
        low_ms: e.ci.0 * 1e3,
        high_ms: e.ci.1 * 1e3,
        rise: e.rise.map_or(String::new(), |(lo, hi)| format!("{:+.1} to {:+.1} %", 100.0 * (lo - 1.0), 100.0 * (hi - 1.0))),
        certain: e.certain,
    };
    edges.iter().filter(|e| e.kind != Kind::Slope).map(row).collect()
}

impl Picture<'_> {
    /// As an SVG element.
    fn draw(&self) -> Result<String> {
        let mut svg = String::new();
        self.onto(&mut svg).map_err(|e| Error::Setting(format!("the picture of a staircase could not be drawn: {e}")))?;
        // An element inside a page takes no XML declaration.
        Ok(svg.find("<svg").map_or(svg.clone(), |at| svg[at..].to_owned()))
    }

    fn onto(&self, svg: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>> {
        let widest = self.curve.last().map_or(1, |p| p.0);
        let highest = self.curve.iter().map(|p| p.1).chain(self.points.iter().map(|p| p.3)).fold(0.0, f64::max) * 1e3;
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(34)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..widest as f64 * 1.02, 0.0..highest * 1.08)?;
        chart.configure_mesh().x_desc(self.label).x_label_formatter(&|w| format!("{w:.0}")).y_desc("ms").light_line_style(WHITE).draw()?;
        let ms = |p: &(usize, f64)| (p.0 as f64, p.1 * 1e3);
        if let Some(model) = &self.model {
            chart.draw_series(LineSeries::new(model.iter().map(ms), MODEL.stroke_width(1)))?;
        }
        chart.draw_series(LineSeries::new(self.curve.iter().map(ms), CURVE.stroke_width(1)))?;
        chart.draw_series(self.points.iter().map(|p| PathElement::new([(p.0 as f64, p.1 * 1e3), (p.0 as f64, p.3 * 1e3)], CURVE)))?;
        chart.draw_series(self.points.iter().map(|p| Circle::new((p.0 as f64, p.2 * 1e3), 2, CURVE.filled())))?;
        let kept = |e: &Kept| {
            let style = if e.certain { KEPT.filled() } else { KEPT.stroke_width(1) };
            Circle::new((e.width as f64, e.latency_s * 1e3), if e.kind == Kind::Slope { 2 } else { 4 }, style)
        };
        chart.draw_series(self.kept.iter().map(kept))?;
        root.present()?;
        Ok(())
    }
}
