//! The `.ts` files of sktime and aeon: lines of `@key value`, then after `@data` a series a line, with channels parted by
//! colons, the numbers of a channel by commas, and the class or the number to predict last.

use std::path::Path;

use super::collector::{Collector, Read};
use super::reader::WantedAnswers;
use super::values::number;
use crate::decoded::Lines;
use crate::error::{Error, Result, quoted, quoted_list};

/// What the header says.
#[derive(Default)]
struct Header {
    /// Whether the last part of a line is a class.
    class: bool,
    /// The classes it lists, if it does.
    classes: Vec<String>,
    /// Whether the last part of a line is a number to predict.
    target: bool,
}

impl Header {
    /// Takes in a line `@key value...`.
    fn read(&mut self, collector: &Collector<'_>, line: usize, text: &str) -> Result<()> {
        let mut words = text.split_whitespace();
        let key = words.next().unwrap_or_default().to_ascii_lowercase();
        let says_yes = |word: Option<&str>| word.is_some_and(|word| word.eq_ignore_ascii_case("true"));
        match key.as_str() {
            "@timestamps" if says_yes(words.next()) => Err(stamped(collector, line)),
            "@attribute" | "@relation" => {
                let hint = "this is a file of another format (.arff or .tsf); convert it to .ts or to a table";
                Err(collector.wrong(line, "a header of a .ts file", &quoted(text), hint))
            }
            "@classlabel" => {
                self.class = says_yes(words.next());
                self.classes = words.map(str::to_owned).collect();
                Ok(())
            }
            "@targetlabel" => {
                self.target = says_yes(words.next());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn stamped(collector: &Collector<'_>, line: usize) -> Error {
    let hint = "write the series as a table with the columns id, time and one for each channel";
    collector.wrong(line, "series without time stamps", "time stamps", hint)
}

/// The next line that is neither blank nor a comment, and its number.
fn next(lines: &mut Lines) -> Result<Option<(usize, String)>> {
    while let Some((number, line)) = lines.next()? {
        if !line.trim().is_empty() && !line.starts_with('#') {
            return Ok(Some((number, line.trim().to_owned())));
        }
    }
    Ok(None)
}

/// Reads a file.
pub(super) fn read(path: &Path, collector: &mut Collector<'_>) -> Result<()> {
    collector.begin(path);
    let mut lines = collector.reader.text.lines(path)?;
    let mut header = Header::default();
    loop {
        let Some((line, text)) = next(&mut lines)? else {
            let hint = "a .ts file has a line `@data` before its series";
            return Err(collector.wrong(lines.number().max(1), "a line `@data`", "the end of the file", hint));
        };
        if text.eq_ignore_ascii_case("@data") {
            break;
        }
        if !text.starts_with('@') {
            let expected = "`@data` before the first series";
            return Err(collector.wrong(line, expected, &quoted(&text), "add the line `@data`"));
        }
        header.read(collector, line, &text)?;
    }
    let wanted = match collector.reader.wanted {
        WantedAnswers::Nothing => true,
        WantedAnswers::Classes { .. } => header.class,
        WantedAnswers::Numbers { .. } => header.target && collector.answers().len() == 1,
    };
    if !wanted {
        let expected = match collector.reader.wanted {
            WantedAnswers::Classes { .. } => "a file with classes (`@classLabel true`)",
            _ => "a file with a number to predict (`@targetLabel true`), and one name in data.target_columns",
        };
        let found = if header.class { "one with classes" } else { "one without" };
        return Err(collector.wrong(1, expected, found, "use data that have what is to be predicted"));
    }
    let (mut values, mut number_of) = (Vec::new(), 0);
    while let Some((line, text)) = next(&mut lines)? {
        number_of += 1;
        let mut parts: Vec<&str> = text.split(':').collect();
        let answer = if header.class || header.target { parts.pop() } else { None };
        read_channels(&parts, line, collector, &mut values)?;
        collector.keep(values.len())?;
        let answer = answer.map(|answer| answer.trim().to_owned());
        if let Some(class) = answer.as_ref().filter(|_| header.class && !header.classes.is_empty())
            && !header.classes.contains(class)
        {
            let expected = format!("a class of the header: {}", quoted_list(header.classes.iter().map(String::as_str)));
            let hint = "correct the class, or add it to `@classLabel`";
            return Err(collector.wrong(line, &expected, &quoted(class), hint));
        }
        let (name, answers) = (number_of.to_string(), answer.into_iter().collect::<Vec<_>>());
        collector.keep_text(&name)?;
        collector.push(Read { name, line, values: &values, answers: &answers })?;
    }
    Ok(())
}

/// The numbers `[steps, C]` of the channels of a line.
fn read_channels(parts: &[&str], line: usize, collector: &mut Collector<'_>, values: &mut Vec<f64>) -> Result<()> {
    values.clear();
    if parts.iter().any(|part| part.trim_start().starts_with('(')) {
        return Err(stamped(collector, line));
    }
    collector.set_channels((1..=parts.len()).map(|channel| channel.to_string()).collect(), line)?;
    let channels: Vec<Vec<&str>> = parts.iter().map(|part| part.split(',').collect()).collect();
    let steps = channels[0].len();
    for (channel, number) in channels.iter().zip(1..) {
        if channel.len() != steps {
            let expected = format!("{steps} numbers in each channel, as in the first");
            let found = format!("{} in channel {number}", channel.len());
            let hint = "write a number that is missing as `?`";
            return Err(collector.wrong(line, &expected, &found, hint));
        }
    }
    for step in 0..steps {
        for channel in &channels {
            let value = number(channel[step]).map_err(|found| {
                let expected = format!("finite numbers, or `?` for a missing one, at step {}", step + 1);
                collector.wrong(line, &expected, &found, "correct it, or write it as missing")
            })?;
            values.push(value);
        }
    }
    Ok(())
}
