//! Pictures in a terminal, of characters alone: no colours, no control sequences.

/// Columns of the terminal; if there is none, those in `COLUMNS`, or 80.
pub fn width() -> usize {
    let of_terminal = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    let given = || std::env::var("COLUMNS").ok()?.parse().ok();
    of_terminal.or_else(given).unwrap_or(80).clamp(40, 200)
}

/// Rows of a curve.
const ROWS: usize = 12;
/// Columns at the left that name values, with the axis.
const MARGIN: usize = 10;
/// The dots of a Braille character by row and column, as bits of its number above U+2800.
const DOTS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// A curve through `points`, whose first numbers rise; what lies above `top` is left out. `mark` is a first number that is
/// pointed at. The axis below bears the `ends`.
pub fn curve(points: &[(f64, f64)], top: f64, mark: Option<f64>, ends: [&str; 2], width: usize) -> String {
    let columns = width - MARGIN;
    let (&(left, _), &(right, _)) = points.first().zip(points.last()).expect("points to draw");
    let bottom = points.iter().map(|&(_, y)| y).fold(f64::INFINITY, f64::min);
    let share = |value: f64, from: f64, to: f64| if to > from { (value - from) / (to - from) } else { 0.0 };
    let place = |share: f64, dots: usize| (share * (dots - 1) as f64).round() as usize;
    let mut cells = vec![vec![0_u32; columns]; ROWS];
    // A dot in every column of dots, and in steep places the rows between: the curve is straight between its points.
    let mut last: Option<usize> = None;
    for pair in points.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        let [from, to] = [x0, x1].map(|x| place(share(x, left, right), 2 * columns));
        for dot in from..=to {
            let y = y0 + (y1 - y0) * share(dot as f64, from as f64, to as f64);
            if y <= top {
                let row = 4 * ROWS - 1 - place(share(y, bottom, top), 4 * ROWS);
                let between =
                    last.map_or(row, |last| if last < row { last + 1 } else { row.max(last.saturating_sub(1)) });
                for row in row.min(between)..=row.max(between) {
                    cells[row / 4][dot / 2] |= DOTS[row % 4][dot % 2];
                }
                last = Some(row);
            }
        }
    }
    let mut text = String::new();
    for (index, row) in cells.iter().enumerate() {
        let label = match index {
            0 => format!("{top:8.3} ┤"),
            _ if index == ROWS - 1 => format!("{bottom:8.3} ┤"),
            _ => format!("{:8} │", ""),
        };
        let dots =
            row.iter().map(|&dots| if dots == 0 { ' ' } else { char::from_u32(0x2800 + dots).expect("Braille") });
        text += (label + &dots.collect::<String>()).trim_end();
        text.push('\n');
    }
    let mark = mark.map(|x| place(share(x, left, right), columns));
    let axis = (0..columns).map(|column| if Some(column) == mark { '┴' } else { '─' });
    text += &format!("{:8} └{}\n", "", axis.collect::<String>());
    let between = columns.saturating_sub(ends[0].chars().count() + ends[1].chars().count());
    text + &format!("{:9}{}{}{}\n", "", ends[0], " ".repeat(between.max(1)), ends[1])
}

/// A bar for each count, the longest as wide as fits beside the names.
pub fn bars(rows: &[(String, usize)], width: usize) -> String {
    let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let most = rows.iter().map(|&(_, count)| count).max().unwrap_or_default().max(1);
    let room = width.saturating_sub(names + most.to_string().len() + 3).max(1);
    let line = |(name, count): &(String, usize)| {
        // What is there is seen, however little it is.
        let eighths = (count * 8 * room).div_ceil(most);
        let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        format!("{name:>names$} │{}{part} {count}\n", "█".repeat(eighths / 8))
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let text = curve(&[(0.0, 0.0), (1.0, 1.0)], 1.0, Some(1.0), ["0", "1"], 34);
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        assert_eq!(lines.len(), ROWS + 2);
        assert!(lines[0].iter().collect::<String>().starts_with("   1.000 ┤"), "{text}");
        // 24 columns for 12 rows: two cells in each, from the left end of the last row to the right end of the first.
        for (row, line) in lines[..ROWS].iter().enumerate() {
            let drawn: Vec<usize> = (MARGIN..line.len()).filter(|&at| line[at] != ' ').map(|at| at - MARGIN).collect();
            let first = 2 * (ROWS - 1 - row);
            assert_eq!(drawn, [first, first + 1], "{text}");
        }
        assert!(lines[ROWS].ends_with(&['─', '┴']) && lines[ROWS].len() == 34, "{text}");
    }

    #[test]
    fn bars_are_as_long_as_their_counts() {
        let rows = [("a".to_owned(), 40), ("bb".to_owned(), 10), ("c".to_owned(), 0)];
        let text = bars(&rows, 47);
        assert_eq!(text, format!(" a │{} 40\nbb │{} 10\n c │ 0\n", "█".repeat(40), "█".repeat(10)));
        assert!(bars(&[("x".to_owned(), 1_000_000), ("y".to_owned(), 1)], 40).contains("▏ 1\n"));
    }

    #[test]
    fn what_is_too_high_or_flat_is_drawn_nevertheless() {
        let text = curve(&[(0.0, 1.0), (1.0, 2.0), (2.0, f64::INFINITY)], 2.0, None, ["a", "b"], 40);
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        let flat = curve(&[(0.0, 1.0), (1.0, 1.0)], 1.0, None, ["a", "b"], 40);
        assert!(flat.lines().nth(ROWS - 1).unwrap().chars().count() == 40, "{flat}");
        curve(&[(0.0, 1.0)], 1.0, None, ["a", "b"], 40);
    }
}
