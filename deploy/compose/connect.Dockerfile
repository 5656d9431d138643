# Kafka Connect with Debezium, and Confluent's Avro converter, which Debezium's image leaves out.
FROM confluentinc/cp-kafka-connect-base:7.9.2 AS converters

FROM quay.io/debezium/connect:3.6.3.Final
COPY --from=converters /usr/share/java/kafka-serde-tools /kafka/connect/avro-converter
