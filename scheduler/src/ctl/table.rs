//! Tables as Go's `text/tabwriter` makes them with tab stops of eight and one column of padding: fleet's own.

const STOP: usize = 8;

/// Rows of equally many cells, as text.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        (widest + 1).div_ceil(STOP) * STOP
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                let width = widths.get(column).copied().unwrap_or(STOP);
                let missing = width.saturating_sub(cell.chars().count());
                out.extend(std::iter::repeat_n('\t', missing.div_ceil(STOP)));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_with_tabs() {
        let rows =
            [["UNIT", "MACHINE", "ACTIVE"], ["apache@1.service", "52bd1b3d.../172.17.8.103", "active"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect();
        assert_eq!(
            table(&rows),
            "UNIT\t\t\tMACHINE\t\t\t\tACTIVE\napache@1.service\t52bd1b3d.../172.17.8.103\tactive\n"
        );
        assert_eq!(table(&[]), "");
    }
}
