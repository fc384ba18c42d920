//! Tables and lists of facts for a terminal: columns as wide as their widest cell,
//! two blanks between, nothing cut off, so that a line can be copied whole.

use super::output::{BOLD, DIM, PLAIN};

/// One cell: its text, and how it looks where colour is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: &'static str,
}

impl Cell {
    /// A cell with a colour of [`output`](super::output).
    pub fn styled(text: impl Into<String>, style: &'static str) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }

    fn chars(&self) -> usize {
        self.text.chars().count()
    }

    fn push_to(&self, line: &mut String) {
        if self.style.is_empty() {
            line.push_str(&self.text);
        } else {
            line.push_str(self.style);
            line.push_str(&self.text);
            line.push_str(PLAIN);
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, "")
    }
}

/// Rows under headings.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with its headings.
    pub fn new(headings: &[&str]) -> Self {
        let headings = headings
            .iter()
            .map(|text| Cell::styled(*text, BOLD))
            .collect();
        Self {
            rows: vec![headings],
        }
    }

    /// Adds a row: one cell a heading.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(
            cells.len(),
            self.rows[0].len(),
            "a row has a cell for every heading"
        );
        self.rows.push(cells);
    }

    /// The table as lines.
    pub fn render(&self) -> String {
        render(&self.rows)
    }
}

/// Facts about one thing, a line each: label, value.
#[derive(Debug, Default)]
pub struct Facts {
    rows: Vec<Vec<Cell>>,
}

impl Facts {
    /// Adds a fact.
    pub fn add(&mut self, label: &str, value: impl Into<Cell>) {
        self.rows.push(vec![Cell::styled(label, DIM), value.into()]);
    }

    /// Adds a fact that is known; nothing is shown of one that is not.
    pub fn add_known(&mut self, label: &str, value: Option<impl Into<Cell>>) {
        if let Some(value) = value {
            self.add(label, value);
        }
    }

    /// The facts as lines.
    pub fn render(&self) -> String {
        render(&self.rows)
    }
}

fn render(rows: &[Vec<Cell>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(Cell::chars)
                .max()
        })
        .map(|widest| widest.unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            cell.push_to(&mut text);
            if column + 1 < row.len() {
                let blanks = widths[column] - cell.chars() + 2;
                text.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::output::GREEN, super::output::without_colour, *};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_colour_takes_no_room() {
        let mut table = Table::new(&["NAME", "STATUS", "TAGS"]);
        table.row(vec![
            "berlin".into(),
            Cell::styled("online", GREEN),
            "a=1".into(),
        ]);
        table.row(vec!["x".into(), "never connected".into(), "".into()]);

        let text = without_colour(&table.render());

        assert_eq!(
            text,
            "NAME    STATUS           TAGS\n\
             berlin  online           a=1\n\
             x       never connected  \n"
        );
    }

    #[test]
    fn unknown_facts_are_left_out() {
        let mut facts = Facts::default();
        facts.add("name", "berlin");
        facts.add_known("host", None::<String>);

        assert_eq!(without_colour(&facts.render()), "name  berlin\n");
    }
}
