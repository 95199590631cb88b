//! Figures side by side that share their keys: an SVG file of its own, and the same in a terminal.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{
    Axis, Canvas, Colour, Curve, Drawn, LETTERS, PALETTE, UNIT, WIDTH, draw_curves, figure, letters, stroke, style,
    units,
};
use crate::numbers::number;
use crate::terminal::sparkline;

/// The height of a panel with its caption, in pixels.
const PANEL: u32 = 240;
/// The height of a line of text, in pixels.
const LINE: u32 = 20;
/// Panels side by side.
const ACROSS: usize = 2;
/// Colours behind everything, on a light and on a dark page.
const PAGES: [&str; 2] = ["#ffffff", "#0d1117"];

/// Curves over their axes.
#[derive(Clone)]
pub struct Panel {
    /// What is seen in it.
    pub caption: String,
    /// From left to right.
    pub x: Axis,
    /// From the bottom to the top.
    pub y: Axis,
    /// Horizontal lines.
    pub guides: Vec<f64>,
    /// The points of each curve that it has, with the place of its key.
    pub curves: Vec<(usize, Vec<(f64, f64)>)>,
}

/// Panels whose curves have the same names and colours.
#[derive(Clone)]
pub struct Sheet {
    /// The names of the curves; there are no more than colours in [`PALETTE`].
    pub keys: Vec<String>,
    /// The panels.
    pub panels: Vec<Panel>,
}

/// What a curve of this key is drawn in.
fn colour(key: usize) -> &'static Colour {
    PALETTE[key]
}

impl Sheet {
    /// An SVG file, which suits light and dark pages.
    pub fn svg(&self) -> String {
        let lines = self.lines_of_keys();
        let (across, down) = (self.panels.len().clamp(1, ACROSS), self.panels.len().div_ceil(ACROSS));
        let (width, keys) = (ACROSS as u32 * WIDTH, LINE * lines.len() as u32 + 8);
        let height = keys + PANEL * down as u32;
        let drawn = figure(width, height, |canvas| {
            let (top, below) = canvas.split_vertically(units(keys));
            for (index, line) in lines.iter().enumerate() {
                let middle = units(LINE * index as u32 + LINE / 2) as i32;
                for &(key, left) in line {
                    draw_key(&top, &self.keys[key], colour(key), left, middle)?;
                }
            }
            for (panel, area) in self.panels.iter().zip(below.split_evenly((down.max(1), across))) {
                panel.draw(&area)?;
            }
            Ok(())
        });
        // Natural sizes are in pixels; what lies behind comes first.
        let (page, rest) = drawn.split_once('>').expect("a figure begins with its element");
        let sizes = |of: [u32; 2]| format!("width=\"{}\" height=\"{}\"", of[0], of[1]);
        let page = page.replacen(&sizes([units(width), units(height)]), &sizes([width, height]), 1);
        let [light, dark] = PAGES;
        format!(
            "{page}>\n<style>\n{}.page {{ fill: {light} }}\n@media (prefers-color-scheme: dark) {{ .page {{ fill: {dark} }} }}\n\
             </style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>{rest}",
            style()
        )
    }

    /// Each line's keys with their left ends, in pixels.
    fn lines_of_keys(&self) -> Vec<Vec<(usize, u32)>> {
        let (mut lines, mut left) = (vec![Vec::new()], 14);
        for (key, name) in self.keys.iter().enumerate() {
            let width = 44 + 7 * name.chars().count() as u32;
            if left + width > ACROSS as u32 * WIDTH && left > 14 {
                lines.push(Vec::new());
                left = 14;
            }
            lines.last_mut().expect("there is a line").push((key, left));
            left += width;
        }
        lines
    }

    /// The panels one after another, a line of blocks for each curve, in so many columns.
    pub fn text(&self, width: usize) -> String {
        self.panels.iter().map(|panel| panel.text(&self.keys, width)).collect::<Vec<_>>().join("\n")
    }
}

fn draw_key(canvas: &Canvas<'_>, name: &str, colour: &Colour, left: u32, middle: i32) -> Drawn {
    let at = |pixels: u32| (units(left + pixels) as i32, middle);
    canvas.draw(&PathElement::new([at(0), at(18)], stroke(colour, 2.5)))?;
    canvas.draw(&Text::new(name.to_owned(), at(24), letters(Pos::new(HPos::Left, VPos::Center))))
}

impl Panel {
    fn draw(&self, canvas: &Canvas<'_>) -> Drawn {
        let (top, below) = canvas.split_vertically(units(LINE));
        let style = ("sans-serif", LETTERS * f64::from(UNIT)).into_font().style(FontStyle::Bold);
        let caption = style.color(&super::INK.light).pos(Pos::new(HPos::Left, VPos::Center));
        top.draw(&Text::new(self.caption.clone(), (units(14) as i32, units(LINE / 2) as i32), caption))?;
        let curve = |(key, points): &(usize, Vec<(f64, f64)>)| Curve {
            colour: colour(*key),
            points: points.iter().copied().filter(|(_, y)| y.is_finite()).collect(),
            band: Vec::new(),
        };
        let curves: Vec<Curve> = self.curves.iter().map(curve).collect();
        draw_curves(&below, &self.x, &self.y, &self.guides, &curves)
    }

    fn text(&self, keys: &[String], width: usize) -> String {
        let Self { caption, x, y, curves, .. } = self;
        let names = curves.iter().map(|(key, _)| keys[*key].chars().count()).max().unwrap_or_default();
        let room = width.saturating_sub(names + 4).max(1);
        let line = |(key, points): &(usize, Vec<(f64, f64)>)| {
            let at = |column: usize| {
                let here = column as f64 / (room - 1).max(1) as f64;
                height(points, x, y, here)
            };
            format!("  {:names$}  {}", keys[*key], sparkline((0..room).map(at))).trim_end().to_owned() + "\n"
        };
        let ends = |axis: &Axis| format!("{} {} to {}", axis.name, number(axis.ends.start), number(axis.ends.end));
        let lines: String = curves.iter().map(line).collect();
        format!("{caption}: {}, over {}\n{lines}", ends(y), ends(x))
    }
}

/// The height of a curve as a share of its axis, straight between its points; none where it does not reach.
fn height(points: &[(f64, f64)], x: &Axis, y: &Axis, here: f64) -> Option<f64> {
    /// What rounding may take from the ends.
    const NEAR: f64 = 1e-9;
    let places: Vec<(f64, f64)> = points
        .iter()
        .filter(|&&(_, value)| value >= y.ends.start)
        .map(|&(at, value)| (x.share(at), y.share(value)))
        .collect();
    let pair = places.windows(2).find(|pair| pair[0].0 - NEAR <= here && here <= pair[1].0 + NEAR)?;
    let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
    let part = if x1 > x0 { ((here - x0) / (x1 - x0)).clamp(0.0, 1.0) } else { 0.0 };
    Some(y0 + part * (y1 - y0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let panel = |caption: &str| Panel {
            caption: caption.to_owned(),
            x: Axis::logarithmic("lag", 2.0, 1.0..16.0),
            y: Axis::linear("skill", 0.0..1.0),
            guides: vec![0.5],
            curves: vec![(0, vec![(1.0, 0.0), (16.0, 1.0)]), (1, vec![(1.0, 1.0), (4.0, 1.0), (16.0, f64::NAN)])],
        };
        Sheet { keys: ["rising", "short"].map(str::to_owned).to_vec(), panels: ["a", "b", "c"].map(panel).to_vec() }
    }

    #[test]
    fn a_file_has_its_own_colours_and_every_panel() {
        let svg = sheet().svg();
        assert!(svg.starts_with("<svg width=\"720\" height=\"508\" viewBox=\"0 0 2880 2032\""), "{svg}");
        assert!(svg.contains("prefers-color-scheme: dark") && svg.ends_with("</svg>\n"), "{svg}");
        for name in ["rising", "short", "lag", "skill"] {
            assert!(svg.contains(&format!("\n{name}\n")), "no {name} in {svg}");
        }
        assert_eq!(
            svg.matches("#0969DA").count(),
            1 + 2 + 1 + 3,
            "a variable, two rules, a key and a curve in each panel"
        );
    }

    #[test]
    fn lines_of_blocks_follow_their_curves() {
        let text = sheet().text(18);
        let panel = "a: skill 0 to 1.00, over lag 1.00 to 16.0\n  rising  ▁▂▃▄▅▆▇█\n  short   ████\n";
        assert!(text.starts_with(panel), "{text}");
    }
}
