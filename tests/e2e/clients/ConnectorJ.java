/* ConnectorJ.java - MariaDB Connector/J through stent: PORT ROUNDS [MS [OPTIONS]]. Idle for a while (so long), then all sorts of work. */
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

public class ConnectorJ {
	static void check(boolean holds, String what) throws Exception {
		if (!holds)
			throw new Exception(what);
	}

	static int number(Connection c, String sql) throws Exception {
		try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
			r.next();
			return r.getInt(1);
		}
	}

	static void round(Connection c, int i) throws Exception {
		c.setAutoCommit(false);
		try (PreparedStatement p = c.prepareStatement("select seq from seq_1_to_40")) {
			int n = 0;
			p.setFetchSize(7);
			try (ResultSet r = p.executeQuery()) {
				while (r.next())
					if (++n % 10 == 0)
						Thread.sleep(2);
			}
			check(n == 40, "rows " + n);
		}
		try (Statement s = c.createStatement()) {
			s.execute("bogus");
			check(false, "no error");
		} catch (SQLException expected) {
			check(expected.getErrorCode() == 1064, expected.toString());
		}
		c.rollback();
		c.setAutoCommit(true);
		try (PreparedStatement p = c.prepareStatement("select ? + 0")) {
			for (int k = 0; k < 3; k++) {
				p.setInt(1, i * 3 + k);
				try (ResultSet r = p.executeQuery()) {
					r.next();
					check(r.getInt(1) == i * 3 + k, "mismatch");
				}
			}
		}
		try (PreparedStatement p = c.prepareStatement("insert into t(v) values (?)")) {
			for (int k = 0; k < 5; k++) {
				p.setInt(1, k);
				p.addBatch();
			}
			check(p.executeBatch().length == 5, "batch");
		}
		check(c.getWarnings() == null, "a warning");
	}

	public static void main(String[] words) throws Exception {
		int rounds = Integer.parseInt(words[1]);
		try (Connection c = DriverManager.getConnection("jdbc:mariadb://127.0.0.1:" + words[0] +
		    "/hb?user=hb&password=pw&useServerPrepStmts=true&" + (words.length > 3 ? words[3] : "sslMode=disable"))) {
			int id = number(c, "select connection_id()");
			Thread.sleep(words.length > 2 ? Integer.parseInt(words[2]) : 400);
			try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("show warnings")) {
				check(!r.next(), "a warning");
			}
			check(c.getWarnings() == null, "a warning");
			check(c.isValid(5), "not valid");
			check(number(c, "select connection_id()") == id, "another session");
			for (int i = 0; i < rounds; i++)
				round(c, i);
		}
		System.out.println("ok " + rounds);
	}
}
