//! Reading `.xlsx` and `.csv` as a stream, in bounded memory, whoever made them.
