//! Tables with a row for each step: in long form, with a column that says which series a row belongs to, or one series alone.

use std::collections::HashMap;
use std::path::Path;

use super::collector::{Collector, LABEL, Read, TARGET};
use super::reader::WantedAnswers;
use super::values::{Time, number};
use crate::error::{Result, quoted};
use crate::table::{Kind, Table, TableFormat};

/// The default names of the columns.
const ID: &str = "id";
const TIME: &str = "time";
/// By default the columns of answers.
const ANSWERS: [&str; 2] = [LABEL, TARGET];

/// The rows of a series so far.
struct Rows {
    name: String,
    line: usize,
    values: Vec<f64>,
    time: Option<Time>,
    answers: Vec<String>,
}

/// The places of the columns that are read.
struct Columns {
    id: Option<usize>,
    time: Option<usize>,
    channels: Vec<usize>,
    answers: Vec<usize>,
}

/// How the rows of a table belong to series.
pub(super) enum Which<'a> {
    /// As the column for the identifier says.
    ById,
    /// All to one, of this name. Its class is given where it is not in a column.
    One { name: &'a str, class: Option<&'a str> },
}

const HINT: &str = "name the columns in data.id_column, data.time_column and data.channels (predict: --id-column and \
                    --time-column), and that of the answer in data.label_column or data.target_columns";

/// Whether a column has no name, or one that pandas gives the numbers of rows.
fn is_index(name: &str) -> bool {
    let numbered = |name: &str| name.strip_prefix("Unnamed: ").is_some_and(|rest| rest.parse::<u32>().is_ok());
    name.is_empty() || name.starts_with("__index_level_") || numbered(name)
}

/// Checks columns that are channels because they are nothing else: what may be something else is not taken for one in silence.
fn check_found(channels: &[usize], header: &[String], collector: &Collector<'_>, line: usize) -> Result<()> {
    const HINT: &str = "name the channels in data.channels";
    let name = |column: usize| header[column].trim();
    for (place, &column) in channels.iter().enumerate() {
        if is_index(name(column)) {
            let found = format!("column {}, called {}, which may number the rows", column + 1, quoted(name(column)));
            return Err(collector.wrong(line, "named channels", &found, HINT));
        }
        if channels[..place].iter().any(|&before| name(before) == name(column)) {
            let found = format!("{} twice", quoted(name(column)));
            return Err(collector.wrong(line, "different names of channels", &found, HINT));
        }
        if ANSWERS.contains(&name(column)) {
            let found = format!("{}, which may be one", quoted(name(column)));
            return Err(collector.wrong(line, "channels that are not answers", &found, HINT));
        }
    }
    Ok(())
}

impl Columns {
    /// The columns by the names in the header.
    fn new(table: &Table, which: &Which<'_>, collector: &Collector<'_>) -> Result<Self> {
        let (reader, header, line) = (collector.reader, table.header(), table.header_line());
        let place = |name: &str| table.column(name, HINT);
        let id = match which {
            Which::ById => Some(place(reader.id_column.as_deref().unwrap_or(ID))?),
            Which::One { .. } => None,
        };
        let time = match &reader.time_column {
            Some(name) => Some(place(name)?),
            None if header.iter().any(|column| column.trim() == TIME) => Some(place(TIME)?),
            None => None,
        };
        let in_column = !matches!(which, Which::One { class: Some(_), .. });
        let answers: Vec<usize> = match in_column {
            true => collector.answers().iter().map(|name| place(name)).collect::<Result<_>>()?,
            false => Vec::new(),
        };
        let others = |column: &usize| Some(*column) != id && Some(*column) != time && !answers.contains(column);
        let channels: Vec<usize> = match reader.channels.is_empty() {
            true => {
                let channels: Vec<usize> = (0..header.len()).filter(others).collect();
                check_found(&channels, header, collector, line)?;
                channels
            }
            false => reader.channels.iter().map(|name| place(name)).collect::<Result<_>>()?,
        };
        if let Some(&both) = channels.iter().find(|column| !others(column)) {
            let expected = "channels that are not the identifier, the time or the answer";
            return Err(collector.wrong(line, expected, &quoted(&header[both]), HINT));
        }
        Ok(Self { id, time, channels, answers })
    }

    /// Selects them in the table, in the order of the fields, and says where they then are.
    fn select(self, table: &mut Table, answers: Kind) -> Result<Self> {
        let mut selected = Vec::new();
        let mut select = |column: usize, kind: Kind| {
            selected.push((column, kind));
            selected.len() - 1
        };
        let columns = Self {
            id: self.id.map(|column| select(column, Kind::Name)),
            time: self.time.map(|column| select(column, Kind::Time)),
            channels: self.channels.iter().map(|&column| select(column, Kind::Number)).collect(),
            answers: self.answers.iter().map(|&column| select(column, answers)).collect(),
        };
        table.select(&selected)?;
        Ok(columns)
    }
}

/// Reads a table.
pub(super) fn read(path: &Path, format: TableFormat, which: &Which<'_>, collector: &mut Collector<'_>) -> Result<()> {
    collector.begin(path);
    let mut table = Table::open(path, format, &collector.reader.text)?;
    let columns = Columns::new(&table, which, collector)?;
    let name = |column: &usize| table.header()[*column].trim().to_owned();
    let channels: Vec<String> = columns.channels.iter().map(name).collect();
    let answers: Vec<String> = columns.answers.iter().map(name).collect();
    collector.set_channels(channels.clone(), table.header_line())?;
    let answer =
        if matches!(collector.reader.wanted, WantedAnswers::Numbers { .. }) { Kind::Number } else { Kind::Name };
    let columns = columns.select(&mut table, answer)?;
    let (mut series, mut index_of) = (Vec::<Rows>::new(), HashMap::<String, usize>::new());
    while let Some((line, fields)) = table.next()? {
        let name = match (which, columns.id) {
            (Which::One { name, .. }, _) => *name,
            (Which::ById, id) => fields[id.expect("there is a column of identifiers")].trim(),
        };
        let index = match index_of.get(name) {
            Some(&index) => index,
            None => {
                if name.is_empty() {
                    return Err(collector.wrong(line, "the identifier of a series", "none", "add it"));
                }
                // Once in the series, once in the index.
                collector.keep_text(name)?;
                collector.keep_text(name)?;
                index_of.insert(name.to_owned(), series.len());
                let answers = match which {
                    Which::One { class: Some(class), .. } => vec![(*class).to_owned()],
                    _ => vec![String::new(); columns.answers.len()],
                };
                series.push(Rows { name: name.to_owned(), line, values: Vec::new(), time: None, answers });
                series.len() - 1
            }
        };
        collector.keep(columns.channels.len())?;
        take(&columns, [&channels, &answers], fields, line, collector, &mut series[index])?;
    }
    for Rows { name, line, values, answers, .. } in series {
        collector.push(Read { name, line, values: &values, answers: &answers })?;
    }
    Ok(())
}

/// Adds a record to its series. `names` are those of the channels and of the answers.
fn take(
    columns: &Columns,
    names: [&[String]; 2],
    fields: &[String],
    line: usize,
    collector: &mut Collector<'_>,
    rows: &mut Rows,
) -> Result<()> {
    let of = format!("in series {}", quoted(&rows.name));
    if let Some(column) = columns.time {
        let found = quoted(&fields[column]);
        let Some(time) = Time::parse(&fields[column]) else {
            let expected = "a time: a number, or a date such as 2016-07-01 12:30:00";
            return Err(collector.wrong(line, expected, &found, "correct it, or name another data.time_column"));
        };
        if let Some(before) = &rows.time {
            let hint = "sort the rows of each series by time, and keep one for each time";
            match time.is_after(before) {
                Some(true) => {}
                Some(false) if time == *before => {
                    return Err(collector.wrong(
                        line,
                        &format!("each time once {of}"),
                        &format!("{found} again"),
                        hint,
                    ));
                }
                Some(false) => {
                    return Err(collector.wrong(
                        line,
                        &format!("ascending times {of}"),
                        &format!("{found} after a later one"),
                        hint,
                    ));
                }
                None => {
                    let expected = format!("times that are all written alike {of}");
                    return Err(collector.wrong(line, &expected, &found, hint));
                }
            }
        }
        rows.time = Some(time);
    }
    for (&column, name) in columns.channels.iter().zip(names[0]) {
        let value = number(&fields[column]).map_err(|found| {
            let expected = format!("a finite number, or nothing, in column {}", quoted(name));
            collector.wrong(line, &expected, &found, "correct it, or name the columns to read in data.channels")
        })?;
        rows.values.push(value);
    }
    for ((answer, &column), name) in rows.answers.iter_mut().zip(&columns.answers).zip(names[1]) {
        let field = fields[column].trim();
        if answer.is_empty() {
            collector.keep_text(field)?;
            *answer = field.to_owned();
        } else if !field.is_empty() && field != answer {
            let expected = format!("{} in column {} {of}, as before", quoted(answer), quoted(name));
            let hint = "a series has one answer, in all of its rows or in one";
            return Err(collector.wrong(line, &expected, &quoted(field), hint));
        }
    }
    Ok(())
}
