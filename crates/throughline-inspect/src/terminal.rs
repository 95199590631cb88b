//! Text for a terminal: paragraphs, tables, lines of blocks.

/// A paragraph, its lines no longer than `width` where words allow it.
pub fn wrapped(text: &str, width: usize) -> String {
    let mut words = text.split(' ');
    flowing(words.next().unwrap_or_default(), words, "", width)
}

/// The same as an item of a list.
pub fn item(text: &str, width: usize) -> String {
    flowing("-", text.split(' '), "  ", width)
}

/// Lines of words that begin with `first`, the later ones indented.
fn flowing<'a>(first: &str, words: impl Iterator<Item = &'a str>, indent: &str, width: usize) -> String {
    let (mut lines, mut line) = (String::new(), first.to_owned());
    for word in words {
        if line.chars().count() + 1 + word.chars().count() > width {
            lines += &(line + "\n");
            line = indent.to_owned() + word;
        } else {
            line += &format!(" {word}");
        }
    }
    lines + &line + "\n"
}

/// Rows of cells, each column as wide as its widest cell and two spaces between; the first column begins at the left, the others
/// end at the right.
pub fn right_aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width_of = |cell: &String| cell.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(width_of).max().unwrap_or_default())
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// A column for each share from 0 to 1; none where there is nothing to draw.
pub fn sparkline(shares: impl Iterator<Item = Option<f64>>) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |share: f64| LEVELS[((share * 8.0) as usize).min(7)];
    shares.map(|share| share.map_or(' ', level)).collect()
}

/// At most `room` of `values`, spread evenly, the first and the last among them.
pub fn columns(values: &[f64], room: usize) -> impl Iterator<Item = f64> {
    let (count, last) = (values.len().min(room), values.len().saturating_sub(1));
    (0..count).map(move |column| values[(column * last + (count - 1) / 2) / (count - 1).max(1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparklines_span_their_scale() {
        let shares = [Some(0.0), Some(0.5), Some(0.99), Some(1.0), None, Some(-1.0), Some(f64::NAN)];
        assert_eq!(sparkline(shares.into_iter()), "▁▅██ ▁▁");
    }

    #[test]
    fn columns_keep_the_ends() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let shown: Vec<f64> = columns(&values, 12).collect();
        assert_eq!((shown.len(), shown[0], shown[11]), (12, 0.0, 99.0));
        assert!(shown.windows(2).all(|pair| (8.0..=10.0).contains(&(pair[1] - pair[0]))), "{shown:?}");
        assert_eq!(columns(&values[..3], 12).collect::<Vec<_>>(), [0.0, 1.0, 2.0]);
        assert_eq!(columns(&values[..3], 1).collect::<Vec<_>>(), [0.0]);
        assert_eq!(columns(&[], 12).count(), 0);
    }

    #[test]
    fn numbers_stand_under_each_other() {
        let rows = [["", "é1"], ["name", "12345"], ["x", "2"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(right_aligned(&rows), "         é1\nname  12345\nx         2\n");
    }

    #[test]
    fn words_that_do_not_fit_go_on_under_the_first() {
        assert_eq!(item("one two three", 9), "- one two\n  three\n");
        assert_eq!(item("incomprehensible", 9), "-\n  incomprehensible\n");
        assert_eq!(wrapped("one two three", 9), "one two\nthree\n");
    }
}
