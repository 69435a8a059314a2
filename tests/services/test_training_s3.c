/* SPDX-License-Identifier: Apache-2.0 */
/* The program on recordings in an S3 store: the same model as from a folder, and what it says when one is gone. */
#include "tests/same_weights.h"

#include "host/store/store.h"

#define BUCKET "heimdall-raw-iq"
#define SMALL                                                                                                          \
	" --receivers all --sample_rate 48000 --n_fft 512 --hop_length 128 --batch_size 8 --epochs 1 "                 \
	"--warmup_epochs 0 --no-progress --backbone_size atto --no_export --object_cache $D/objects "
#define SESSIONS 12
#define RECEIVERS 7

#define GOOD(call) cr_assert_eq((call), HD_OK, "%s: %s", #call, hd_error_text())

static hd_store *store;
static char database[] = "/tmp/heimdall-postgres.XXXXXX"; /* where another user gets to */

static void begin(void)
{
	const char *url = getenv("HD_S3_URL");
	hd_s3 *s3;
	char command[512], local[512], key[512];
	cr_assert(url && *url, "run this through tests/services/run.sh");
	setenv("AWS_ENDPOINT_URL_S3", url, 1);
	make_folder();
	snprintf(command, sizeof command,
	        "synth --out $D/data --sample_rate 48000 --samples 3968 --sessions %d --no-progress", SESSIONS);
	cr_assert_eq(heimdall(command), 0, "%s", text);
	snprintf(local, sizeof local, "%s/put", folder);
	GOOD(hd_store_open(&store, &(hd_store_settings){.cache_folder = local}));
	GOOD(hd_store_s3(&s3, store));
	GOOD(hd_s3_make_bucket(s3, BUCKET));
	for (int s = 1; s <= SESSIONS; s++) {
		for (int r = 1; r <= RECEIVERS; r++) {
			snprintf(local, sizeof local, "%s/data/sessions/s%06d/websdr_%d.npy", folder, s, r);
			snprintf(key, sizeof key, "s3://" BUCKET "/sessions/s%06d/websdr_%d.npy", s, r);
			GOOD(hd_store_put(store, key, local, false));
		}
	}
	cr_assert_eq(shell("mkdir $D/far && sed 's#,sessions/#,s3://" BUCKET "/sessions/#' $D/data/manifest.csv > "
	                   "$D/far/manifest.csv && grep -c s3:// $D/far/manifest.csv"),
	        0, "%s", text);
}

static void end(void)
{
	hd_store_close(store);
	remove_data();
}

Test(training_s3, same_model_as_from_a_folder, .timeout = 240)
{
	begin();
	cr_assert_eq(heimdall("train --data_dir $D/data --checkpoint_dir $D/ck" SMALL), 0, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D/far --checkpoint_dir $D/ck_far" SMALL), 0, "%s", text);
	expect_same_weights("ck", "ck_far");
	cr_assert_eq(shell("sed 's/,[^,]*$//' $D/ck/metrics.csv > $D/a; sed 's/,[^,]*$//' $D/ck_far/metrics.csv | cmp "
	                   "- $D/a"),
	        0, "metrics differ: %s", text);
	/* nothing is fetched twice: features are known by ETag */
	cr_assert_eq(shell("rm -rf $D/objects"), 0);
	cr_assert_eq(heimdall("train --data_dir $D/far --checkpoint_dir $D/again" SMALL), 0, "%s", text);
	expect_same_weights("ck", "again");
	cr_assert_eq(shell("test -z \"$(find $D/objects -type f -size +1k)\""), 0, "objects were fetched again");
	cr_assert_eq(heimdall("predict --checkpoint $D/ck/best.safetensors $D/data/sessions/s000003/websdr_?.npy"), 0,
	        "%s", text);
	char answer[512];
	snprintf(answer, sizeof answer, "%s", text);
	cr_assert_eq(shell("\"$H\" predict --checkpoint $D/ck/best.safetensors --object_cache $D/objects "
	                   "$(for r in 1 2 3 4 5 6 7; do echo s3://" BUCKET "/sessions/s000003/websdr_$r.npy; done)"),
	        0, "%s", text);
	cr_assert_str_eq(text, answer);
	/* copied from there into the original's layout */
	cr_assert_eq(
	        heimdall("catalog export $D/far --format original --receivers all --sample_rate 48000 --out $D/copied "
	                 "--object_cache $D/objects"),
	        0, "%s", text);
	cr_assert_eq(heimdall("train --data_dir $D/copied --checkpoint_dir $D/ck_copied" SMALL), 0, "%s", text);
	expect_same_weights("ck", "ck_copied");
	end();
}

/* Sessions named by UUIDs, their objects where both schemas look for them, and both schemas in a PostgreSQL. */
static void fill_database(void)
{
	char local[512], key[512], name[128];
	cr_assert_eq(shell("/usr/bin/python3 tests/services/postgres_data.py folders $D/data $D/both"), 0, "%s", text);
	cr_assert_eq(shell("cd $D/both/iq && find sessions -name '*.npy' > $D/list"), 0);
	snprintf(local, sizeof local, "%s/list", folder);
	FILE *list = fopen(local, "r");
	cr_assert_not_null(list);
	while (fscanf(list, "%127s", name) == 1) {
		snprintf(local, sizeof local, "%s/both/iq/%s", folder, name);
		snprintf(key, sizeof key, "s3://" BUCKET "/%s", name);
		GOOD(hd_store_put(store, key, local, false));
	}
	fclose(list);
	/* the deployed system's table names the object; the seed page's has no such column, and a key made of its ids
	 */
	cr_assert_eq(shell("mkdir -p $D/far_deployed && sed \"s#$(realpath $D/both/iq)/#s3://" BUCKET
	                   "/#\" $D/both/deployed/manifest.csv > $D/far_deployed/manifest.csv && "
	                   "grep -q s3://" BUCKET " $D/far_deployed/manifest.csv"),
	        0, "%s", text);
	cr_assert_not_null(mkdtemp(database));
	setenv("PG", database, 1);
	cr_assert_eq(shell("tests/services/postgres.sh start $PG"), 0, "%s", text);
	snprintf(local, sizeof local, "%s/password", database);
	FILE *file = fopen(local, "r");
	cr_assert(file && fgets(key, sizeof key, file));
	fclose(file);
	setenv("PGPASSWORD", key, 1);
	cr_assert_eq(
	        shell("U=postgresql://tester@127.0.0.1:$(cat $PG/port)/postgres; \"$H\" catalog import "
	              "$D/far_deployed --schema deployed --out $U && psql -XqAt -v ON_ERROR_STOP=1 $U -c 'CREATE TABLE "
	              "public.measurements (id SERIAL PRIMARY KEY, session_id UUID, websdr_id INTEGER, latitude FLOAT "
	              "NOT NULL, longitude FLOAT NOT NULL, frequency_mhz FLOAT, snr_db FLOAT, timestamp TIMESTAMPTZ, "
	              "created_at TIMESTAMPTZ DEFAULT now())' && /usr/bin/python3 -c 'import csv, sys\n"
	              "for r in csv.DictReader(open(sys.argv[1])): print(r[\"session\"], r[\"receiver\"], "
	              "r[\"latitude\"], r[\"longitude\"], r[\"frequency_mhz\"], r[\"snr_db\"], r[\"timestamp\"], "
	              "sep=\"\\t\")' $D/both/seed/manifest.csv | psql -Xq -v ON_ERROR_STOP=1 $U -c '\\copy "
	              "measurements "
	              "(session_id, websdr_id, latitude, longitude, frequency_mhz, snr_db, timestamp) FROM STDIN'"),
	        0, "%s", text);
}

/* The catalogue in PostgreSQL, the recordings in S3: the folder's model, in both schemas. */
Test(training_s3, same_model_from_a_database, .timeout = 240)
{
	static const char *const schemas[] = {"seed", "deployed"};
	char command[1024], far[64];
	if (shell("command -v psql && ls -d /usr/lib/postgresql/*/bin") != 0)
		cr_skip_test("no PostgreSQL server: install postgresql");
	begin();
	fill_database();
	for (size_t i = 0; i < 2; i++) {
		snprintf(command, sizeof command,
		        "train --assume_approved --data_dir $D/both/%s --checkpoint_dir $D/ck_%s" SMALL, schemas[i],
		        schemas[i]);
		cr_assert_eq(heimdall(command), 0, "%s", text);
		snprintf(command, sizeof command,
		        "train --assume_approved --data postgresql://tester@127.0.0.1:$(cat $PG/port)/postgres "
		        "--schema %s "
		        "--cache_dir $D/cache_%s --checkpoint_dir $D/far_%s_ck" SMALL,
		        schemas[i], schemas[i], schemas[i]);
		cr_assert_eq(heimdall(command), 0, "%s", text);
		snprintf(command, sizeof command, "ck_%s", schemas[i]);
		snprintf(far, sizeof far, "far_%s_ck", schemas[i]);
		expect_same_weights(command, far);
		snprintf(command, sizeof command,
		        "sed 's/,[^,]*$//' $D/ck_%s/metrics.csv > $D/a; sed 's/,[^,]*$//' $D/far_%s_ck/metrics.csv | "
		        "cmp - $D/a",
		        schemas[i], schemas[i]);
		cr_assert_eq(shell(command), 0, "%s: metrics differ: %s", schemas[i], text);
	}
	/* it is kept by the server's own folder alone */
	cr_assert_eq(shell("! grep -rlF \"$PGPASSWORD\" $D"), 0, "the password in %s", text);
	cr_assert_eq(shell("tests/services/postgres.sh kill $PG; rm -rf $PG"), 0, "%s", text);
	unsetenv("PGPASSWORD");
	end();
}

/* A changed object gives other features; one that is gone is named and left out. */
Test(training_s3, changed_and_missing_objects, .timeout = 240)
{
	char local[512];
	hd_s3 *s3;
	begin();
	cr_assert_eq(heimdall("train --data_dir $D/far --checkpoint_dir $D/ck" SMALL), 0, "%s", text);
	snprintf(local, sizeof local, "%s/data/sessions/s000002/websdr_2.npy", folder);
	GOOD(hd_store_put(store, "s3://" BUCKET "/sessions/s000001/websdr_1.npy", local, false));
	cr_assert_eq(shell("cp $D/data/sessions/s000002/websdr_2.npy $D/data/sessions/s000001/websdr_1.npy"), 0);
	GOOD(hd_store_s3(&s3, store));
	GOOD(hd_s3_delete(s3, BUCKET, "sessions/s000004/websdr_3.npy"));
	cr_assert_eq(shell("rm $D/data/sessions/s000004/websdr_3.npy"), 0);
	cr_assert_eq(heimdall("train --data_dir $D/far --checkpoint_dir $D/ck_far" SMALL), 0, "%s", text);
	expect_text("s3://" BUCKET "/sessions/s000004/websdr_3.npy");
	cr_assert_eq(heimdall("train --data_dir $D/data --checkpoint_dir $D/ck_near" SMALL), 0, "%s", text);
	expect_same_weights("ck_near", "ck_far");
	end();
}

/* Keys that are wrong, or a server that is not there, end the program: they are no fault of the recordings. */
Test(training_s3, a_store_that_does_not_answer_ends_it, .timeout = 240)
{
	begin();
	cr_assert_eq(shell("AWS_SECRET_ACCESS_KEY=wrong \"$H\" train --data_dir $D/far --checkpoint_dir $D/ck" SMALL),
	        1, "%s", text);
	cr_assert_eq(shell("AWS_ACCESS_KEY_ID= AWS_SECRET_ACCESS_KEY= \"$H\" train --data_dir $D/far --checkpoint_dir "
	                   "$D/ck" SMALL),
	        2, "%s", text);
	cr_assert_eq(shell("test ! -e $D/ck/best.safetensors"), 0);
	/* of a configuration file they are used, and nowhere written */
	cr_assert_eq(
	        shell("K=$AWS_ACCESS_KEY_ID S=$AWS_SECRET_ACCESS_KEY; unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; "
	              "printf 's3_access_key: \"%s\"\\ns3_secret_key: \"%s\"\\n' \"$K\" \"$S\" > $D/keys.yaml; "
	              "\"$H\" train --config $D/keys.yaml --data_dir $D/far --checkpoint_dir $D/ck" SMALL
	              "; C=$?; rm $D/keys.yaml; exit $C"),
	        0, "%s", text);
	end();
}
