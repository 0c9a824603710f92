CREATE TABLE claims
(
    client UInt32,
    day Date,
    amount Decimal(12, 2)
)
ENGINE = MergeTree
ORDER BY (client, day);

CREATE TABLE claims_by_month
(
    client UInt32,
    month Date,
    claims UInt64,
    amount Decimal(18, 2)
)
ENGINE = SummingMergeTree
ORDER BY (client, month);

CREATE MATERIALIZED VIEW claims_to_months TO claims_by_month AS
SELECT client, toStartOfMonth(day) AS month, count() AS claims, sum(amount) AS amount
FROM claims
GROUP BY client, month;
