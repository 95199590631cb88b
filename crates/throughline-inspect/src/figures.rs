//! Figures as SVG. Those of a page are drawn in the colours of a light one, which [`style`] turns into those of the page; a
//! [`Sheet`] is a file of its own.

mod sheet;

pub use sheet::{Panel, Sheet};

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::numbers::number;

/// A colour on a light page and the one that takes its place on a dark one. A style sheet knows it by its name.
pub struct Colour {
    name: &'static str,
    light: RGBColor,
    dark: RGBColor,
}

/// Letters and axes.
pub const INK: Colour = colour("ink", 0x24292f, 0xc9d1d9);
/// Lines behind everything.
pub const FAINT: Colour = colour("line", 0xd8dee4, 0x30363d);
/// What a figure shows.
pub const FIRST: Colour = colour("first", 0x0969da, 0x58a6ff);
/// What it is compared with, and guides.
pub const SECOND: Colour = colour("second", 0xbc4c00, 0xf0883e);
/// Curves that are told apart by their colours.
pub const PALETTE: [&Colour; 8] = [
    &FIRST,
    &SECOND,
    &colour("third", 0x1a7f37, 0x3fb950),
    &colour("fourth", 0x8250df, 0xbc8cff),
    &colour("fifth", 0xbf3989, 0xff7bca),
    &colour("sixth", 0x8a6d00, 0xe3b341),
    &colour("seventh", 0x0e7c86, 0x39c5cf),
    &colour("eighth", 0x6e7781, 0x8b949e),
];

const fn colour(name: &'static str, light: u32, dark: u32) -> Colour {
    const fn rgb(hex: u32) -> RGBColor {
        let [_, red, green, blue] = hex.to_be_bytes();
        RGBColor(red, green, blue)
    }
    Colour { name, light: rgb(light), dark: rgb(dark) }
}

/// The colours as variables of a style sheet, and rules by which figures take them.
pub fn style() -> String {
    let all = || [&INK, &FAINT].into_iter().chain(PALETTE);
    let hex = |RGBColor(red, green, blue): RGBColor| format!("#{red:02X}{green:02X}{blue:02X}");
    let variables = |of: fn(&Colour) -> RGBColor| {
        let all = all().map(|colour| format!("--{}: {};", colour.name, hex(of(colour))));
        format!(":root {{ {} }}", all.collect::<Vec<_>>().join(" "))
    };
    let rules = all().map(|Colour { name, light, .. }| {
        let light = hex(*light);
        format!("[fill=\"{light}\"] {{ fill: var(--{name}) }}\n[stroke=\"{light}\"] {{ stroke: var(--{name}) }}\n")
    });
    let (light, dark) = (variables(|colour| colour.light), variables(|colour| colour.dark));
    format!("{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{}", rules.collect::<String>())
}

/// Units of a figure in a pixel of its natural size: points lie on whole units.
const UNIT: u32 = 4;
/// Natural widths of figures, in pixels.
const WIDTH: u32 = 360;
const NARROW: u32 = 260;
/// Size of its letters, in pixels; what the library is told, it divides by 1.24.
const LETTERS: f64 = 12.0 * 1.24;

/// So many pixels in units.
const fn units(pixels: u32) -> u32 {
    UNIT * pixels
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// A figure of so many pixels.
fn figure(width: u32, height: u32, draw: impl FnOnce(&Canvas<'_>) -> Drawn) -> String {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, (units(width), units(height))).into_drawing_area();
        draw(&canvas).and_then(|()| canvas.present()).expect("a string takes every figure");
    }
    svg
}

fn letters(anchor: Pos) -> TextStyle<'static> {
    ("sans-serif", LETTERS * f64::from(UNIT)).into_font().color(&INK.light).pos(anchor)
}

fn stroke(colour: &Colour, pixels: f64) -> ShapeStyle {
    colour.light.stroke_width((pixels * f64::from(UNIT)) as u32)
}

/// How numbers lie along an axis.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    Linear,
    /// Powers of this number are equally far apart.
    Logarithmic(f64),
}

/// An axis of a chart.
#[derive(Clone)]
pub struct Axis {
    /// What it shows.
    pub name: &'static str,
    /// The least and the largest number on it.
    pub ends: Range<f64>,
    /// How numbers lie along it.
    pub scale: Scale,
}

impl Axis {
    /// An axis of equal steps.
    pub fn linear(name: &'static str, ends: Range<f64>) -> Self {
        // A range without a width has no scale.
        let end = if ends.end > ends.start { ends.end } else { ends.start + 1.0 };
        Self { name, ends: ends.start..end, scale: Scale::Linear }
    }

    /// An axis of powers of `base`, from a number above 0.
    pub fn logarithmic(name: &'static str, base: f64, ends: Range<f64>) -> Self {
        let end = if ends.end > ends.start { ends.end } else { base * ends.start };
        Self { name, ends: ends.start..end, scale: Scale::Logarithmic(base) }
    }

    /// Where a number is, which is kept on the axis.
    fn place(&self, x: f64) -> f64 {
        let x = x.clamp(self.ends.start, self.ends.end);
        match self.scale {
            Scale::Linear => x,
            Scale::Logarithmic(base) => x.log(base),
        }
    }

    /// Where a number is from 0, the beginning of the axis, to 1, its end.
    pub fn share(&self, x: f64) -> f64 {
        let Range { start, end } = self.places();
        (self.place(x) - start) / (end - start)
    }

    fn places(&self) -> Range<f64> {
        self.place(self.ends.start)..self.place(self.ends.end)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        first + (self.share(*value) * f64::from(last - first)).round() as i32
    }

    /// Ticks; on a logarithmic axis they are at whole powers.
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let room = hint.bold_points();
        match self.scale {
            Scale::Linear => RangedCoordf64::from(self.ends.clone()).key_points(room),
            Scale::Logarithmic(base) => {
                let Range { start, end } = self.places();
                // Rounding must not lose a power at an end.
                let (first, last) = ((start - 1e-9).ceil() as i32, (end + 1e-9).floor() as i32);
                let stride = (last - first).max(0) / room.max(1) as i32 + 1;
                (first..=last).filter(|power| power % stride == 0).map(|power| base.powi(power)).collect()
            }
        }
    }

    fn range(&self) -> Range<f64> {
        self.ends.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, &value: &f64) -> String {
        match value.abs() {
            size if size > 0.0 && size < 1e-3 => number(value),
            _ => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
        }
    }
}

/// A curve, and a band around it.
#[derive(Clone)]
pub struct Curve {
    /// Its colour.
    pub colour: &'static Colour,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// At each x the lower and the upper edge; empty for none.
    pub band: Vec<(f64, f64, f64)>,
}

/// Curves over two axes, with horizontal `guides`.
pub fn curves(x: &Axis, y: &Axis, guides: &[f64], curves: &[Curve]) -> String {
    figure(WIDTH, 220, |canvas| draw_curves(canvas, x, y, guides, curves))
}

fn draw_curves(canvas: &Canvas<'_>, x: &Axis, y: &Axis, guides: &[f64], curves: &[Curve]) -> Drawn {
    let mut chart = ChartBuilder::on(canvas)
        .margin_top(units(8))
        .margin_right(units(14))
        .x_label_area_size(units(36))
        .y_label_area_size(units(58))
        .build_cartesian_2d(x.clone(), y.clone())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(stroke(&FAINT, 1.0))
        .axis_style(stroke(&INK, 1.0))
        .label_style(letters(Pos::default()))
        .x_labels(if x.scale == Scale::Linear { 6 } else { 9 })
        .y_labels(6)
        .x_desc(x.name)
        .y_desc(y.name)
        .draw()?;
    for &guide in guides.iter().filter(|guide| (y.ends.start..=y.ends.end).contains(guide)) {
        let ends = [x.ends.start, x.ends.end].map(|end| (end, guide));
        chart.draw_series(DashedLineSeries::new(ends, units(4), units(4), stroke(&SECOND, 1.0)))?;
    }
    for Curve { colour, points, band } in curves {
        let edge = |upper: bool| band.iter().map(move |&(at, low, high)| (at, if upper { high } else { low }));
        let outline: Vec<(f64, f64)> = edge(false).chain(edge(true).rev()).collect();
        if !outline.is_empty() {
            chart.draw_series(std::iter::once(Polygon::new(outline, colour.light.mix(0.2).filled())))?;
        }
        // What is below the axis is not drawn along it.
        for part in points.split(|&(_, value)| value < y.ends.start) {
            chart.draw_series(LineSeries::new(part.iter().copied(), stroke(colour, 1.75)))?;
        }
    }
    Ok(())
}

/// Bars of equal width over an axis.
pub fn bars(x: &Axis, heights: &[u64]) -> String {
    let (width, most) = (x.ends.end - x.ends.start, heights.iter().copied().max().unwrap_or_default().max(1) as f64);
    figure(NARROW, 90, |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(units(4))
            .margin_right(units(14))
            .margin_left(units(14))
            .x_label_area_size(units(24))
            .build_cartesian_2d(x.clone(), 0.0..most)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_y_axis()
            .axis_style(stroke(&INK, 1.0))
            .label_style(letters(Pos::default()))
            .x_labels(5)
            .draw()?;
        let edge = |bar: usize| x.ends.start + width * bar as f64 / heights.len() as f64;
        chart.draw_series(heights.iter().enumerate().filter(|&(_, &height)| height > 0).map(|(bar, &height)| {
            let mut rectangle =
                Rectangle::new([(edge(bar), 0.0), (edge(bar + 1), height as f64)], FIRST.light.mix(0.75).filled());
            rectangle.set_margin(0, 0, UNIT, 0);
            rectangle
        }))?;
        Ok(())
    })
}

/// Room for the names of rows, in pixels.
const NAMES: u32 = 72;
/// The height of a row, in pixels.
const ROW: u32 = 22;

/// A row of cells for each name; a number from 0 to 1, or from -1 to 1 in two colours, is how strongly its cell is coloured.
pub fn heat_map(rows: &[(&str, Vec<f64>)]) -> String {
    figure(WIDTH, ROW * rows.len() as u32, |canvas| {
        for (index, (name, cells)) in rows.iter().enumerate() {
            let top = units(ROW * index as u32) as i32;
            let bottom = top + units(ROW - 3) as i32;
            name_row(canvas, name, (top + bottom) / 2)?;
            let edge = |cell: usize| {
                (units(NAMES) as usize + cell * units(WIDTH - NAMES) as usize / cells.len().max(1)) as i32
            };
            for (cell, &value) in cells.iter().enumerate() {
                let colour = if value < 0.0 { SECOND } else { FIRST };
                let style = colour.light.mix(value.abs().min(1.0)).filled();
                canvas.draw(&Rectangle::new([(edge(cell), top), (edge(cell + 1), bottom)], style))?;
            }
            let frame = [(edge(0), top), (edge(cells.len()), bottom)];
            canvas.draw(&Rectangle::new(frame, stroke(&FAINT, 1.0)))?;
        }
        Ok(())
    })
}

fn name_row(canvas: &Canvas<'_>, name: &str, middle: i32) -> Drawn {
    let at = (units(NAMES - 6) as i32, middle);
    canvas.draw(&Text::new(name.to_owned(), at, letters(Pos::new(HPos::Right, VPos::Center))))
}

/// For each name two numbers along one axis, as a disc and a ring, with a vertical guide at 1.
pub fn dots(name: &'static str, rows: &[(&str, [f64; 2])]) -> String {
    let most = rows.iter().flat_map(|(_, pair)| pair).copied().filter(|x| x.is_finite()).fold(1.0, f64::max);
    let x = Axis::linear(name, 0.0..1.05 * most);
    let count = rows.len() as f64;
    figure(WIDTH, ROW * rows.len() as u32 + 44, |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(units(4))
            .margin_right(units(14))
            .margin_left(units(NAMES))
            .x_label_area_size(units(36))
            .build_cartesian_2d(x.clone(), 0.0..count)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .disable_y_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(stroke(&FAINT, 1.0))
            .axis_style(stroke(&INK, 1.0))
            .label_style(letters(Pos::default()))
            .x_labels(6)
            .x_desc(x.name)
            .draw()?;
        chart.draw_series(LineSeries::new([(1.0, 0.0), (1.0, count)], stroke(&SECOND, 1.0)))?;
        for (index, (name, [disc, ring])) in rows.iter().enumerate() {
            let y = count - 0.5 - index as f64;
            name_row(canvas, name, chart.backend_coord(&(0.0, y)).1)?;
            let [disc, ring] = [disc, ring].map(|at| (*at, y));
            let joined = stroke(&FIRST, 1.0);
            chart.draw_series(LineSeries::new([disc, ring], joined))?;
            chart.draw_series([Circle::new(ring, units(4), stroke(&FIRST, 1.5))])?;
            chart.draw_series([Circle::new(disc, units(4), FIRST.light.filled())])?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often `svg` has this element.
    fn count(svg: &str, element: &str) -> usize {
        svg.matches(&format!("<{element} ")).count()
    }

    #[test]
    fn every_colour_of_a_figure_is_the_page_s() {
        let rules = style();
        let svg = heat_map(&[("input", vec![0.5, -0.5]), ("forget", vec![1.0])])
            + &dots("size", &[("input", [0.5, 2.0])])
            + &curves(
                &Axis::linear("x", 0.0..1.0),
                &Axis::logarithmic("y", 10.0, 1e-3..1.0),
                &[0.1],
                &[Curve { colour: &FIRST, points: vec![(0.0, 1.0), (1.0, 0.5)], band: vec![(0.0, 0.5, 1.0)] }],
            );
        for part in svg.split(['"', ' ']).filter(|part| part.starts_with('#')) {
            assert!(rules.contains(&format!("[fill=\"{part}\"]")), "{part}");
        }
        assert_eq!(count(&heat_map(&[("a", vec![0.1; 7])]), "rect"), 8, "seven cells and their frame");
        assert_eq!(count(&dots("size", &[("a", [0.5, 2.0]), ("b", [1.0, 1.0])]), "circle"), 4);
    }

    #[test]
    fn bars_are_as_many_as_there_is_something_to_show() {
        let svg = bars(&Axis::linear("", 0.0..1.0), &[3, 0, 1]);
        assert_eq!(count(&svg, "rect"), 2, "{svg}");
    }

    #[test]
    fn what_has_no_width_or_lies_outside_is_drawn_nevertheless() {
        let x = Axis::logarithmic("lag", 2.0, 1.0..1.0);
        assert_eq!(x.places(), 0.0..1.0);
        let y = Axis::logarithmic("", 10.0, 1e-6..1.0);
        assert_eq!((y.map(&0.0, (60, 0)), y.map(&5.0, (60, 0))), (60, 0));
        let points = vec![(1.0, 0.0)];
        assert!(curves(&x, &y, &[], &[Curve { colour: &INK, points, band: Vec::new() }]).ends_with("</svg>\n"));
        assert_eq!(Axis::linear("", 2.0..2.0).places(), 2.0..3.0);
    }

    #[test]
    fn ticks_stand_where_they_say() {
        let logarithmic = Axis::logarithmic("", 10.0, 1e-6..10.0);
        let ticks = logarithmic.key_points(4);
        assert_eq!(
            ticks.iter().map(|tick| logarithmic.format_ext(tick)).collect::<Vec<_>>(),
            ["1e-6", "1e-4", "0.01", "1"]
        );
        assert_eq!(ticks.iter().map(|tick| logarithmic.map(tick, (70, 0))).collect::<Vec<_>>(), [70, 50, 30, 10]);
        assert_eq!(Axis::logarithmic("", 2.0, 1.0..9.0).key_points(9), [1.0, 2.0, 4.0, 8.0]);
        let linear = Axis::linear("", 0.0..1.0);
        assert_eq!([0.0, 0.25, 1.0, 1e-5].map(|value| linear.format_ext(&value)), ["0", "0.25", "1", "1e-5"]);
    }
}
