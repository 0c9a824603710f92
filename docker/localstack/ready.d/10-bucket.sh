#!/bin/bash
# Creates the bucket $S3_BUCKET if it is missing. LocalStack runs this once its port serves.
set -euo pipefail

if [[ -z ${S3_BUCKET:-} ]]; then
    echo "S3_BUCKET is not set: no bucket is created."
    exit 0
fi

key=${AWS_ACCESS_KEY_ID:-test}
region=${AWS_DEFAULT_REGION:-us-east-1}
url="http://127.0.0.1:4566/$S3_BUCKET"
# LocalStack does not check the signature. The header selects the service, the account and the region.
authorization="Authorization: AWS4-HMAC-SHA256 Credential=$key/20260101/$region/s3/aws4_request, SignedHeaders=host, Signature=0"
request() { curl --silent --show-error --noproxy '*' --max-time 30 --header "$authorization" "$@"; }

status=$(request --head --output /dev/null --write-out '%{http_code}' "$url")
if [[ $status == 200 ]]; then
    echo "Bucket $S3_BUCKET is there."
    exit 0
fi

body=""
if [[ $region != us-east-1 ]]; then
    body="<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>$region</LocationConstraint></CreateBucketConfiguration>"
fi
answer=$(request --request PUT --data-binary "$body" --header 'Content-Type: application/xml' --write-out '\n%{http_code}' "$url")
case ${answer##*$'\n'} in
    200) echo "Bucket $S3_BUCKET was created in $region." ;;
    *)
        echo "Bucket $S3_BUCKET could not be created in $region: $answer" >&2
        exit 1
        ;;
esac
