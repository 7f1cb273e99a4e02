/*
 * Pgjdbc.java - pgjdbc through stent. PORT idle MS: quiet for so long, then used. PORT mix ROUNDS: all sorts of work.
 * PORT listen SERVER: waits for notifications, in each way that it has, which come from a session at that port.
 */
import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

public class Pgjdbc {
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

	static void idle(Connection c, int ms) throws Exception {
		int pid = number(c, "select pg_backend_pid()");
		Thread.sleep(ms);
		check(c.isValid(5), "not valid");
		check(number(c, "select pg_backend_pid()") == pid, "another session");
	}

	static void round(Connection c, int i) throws Exception {
		c.setAutoCommit(false);
		try (PreparedStatement p = c.prepareStatement("select generate_series(1, 40)")) {
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
		} catch (SQLException e) {
			c.rollback();
		}
		c.setAutoCommit(true);
		try (PreparedStatement p = c.prepareStatement("select ?::int")) {
			for (int j = 0; j < 6; j++) {	/* from the fifth on a prepared statement of the server */
				p.setInt(1, i * 6 + j);
				ResultSet r = p.executeQuery();
				check(r.next() && r.getInt(1) == i * 6 + j, "mismatch");
			}
		}
		PGConnection g = c.unwrap(PGConnection.class);
		StringWriter w = new StringWriter();
		g.getCopyAPI().copyOut("copy (select generate_series(1, 200)) to stdout", w);
		check(w.toString().split("\n").length == 200, "COPY OUT");
		if (i == 0)
			try (Statement s = c.createStatement()) {
				s.execute("create temp table q(a int)");
			}
		check(g.getCopyAPI().copyIn("copy q from stdin", new StringReader("1\n2\n3\n")) == 3, "COPY IN");
	}

	static Connection connect(String port, String more) throws Exception {
		return DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + port + "/postgres?gssEncMode=disable&" +
		    System.getProperty("with", "user=postgres&sslmode=disable") + more);
	}

	/* Waits for one notification that is sent a while later; timeout: as getNotifications() takes it, -1: polled. */
	static void hear(Connection c, Connection other, int timeout, String what) throws Exception {
		PGConnection g = c.unwrap(PGConnection.class);
		PGNotification[] got = null;
		Thread sender = new Thread(() -> {
			try (Statement s = other.createStatement()) {
				Thread.sleep(300);
				s.execute("notify ch, '" + what + "'");
			} catch (Exception e) {
				e.printStackTrace();
			}
		});

		sender.start();
		for (int i = 0; i < 2000 && (got == null || got.length == 0); i++) {
			got = timeout < 0 ? g.getNotifications() : g.getNotifications(timeout);
			if (timeout < 0)
				Thread.sleep(5);
		}
		sender.join();
		check(got != null && got.length == 1 && got[0].getParameter().equals(what), "not notified of " + what);
	}

	static void listen(String port, String server, String more) throws Exception {
		try (Connection c = connect(port, more); Connection other = connect(server, ""); Statement s = c.createStatement()) {
			s.execute("listen ch");
			Thread.sleep(200);
			hear(c, other, 0, "blocking");
			hear(c, other, 20, "with a timeout");
			hear(c, other, -1, "polled");
			check(number(c, "select 7") == 7, "a query");
			hear(c, other, 0, "after a query");
		}
	}

	public static void main(String[] a) throws Exception {
		Connection c = connect(a[0], "");
		if (a[1].equals("listen")) {
			listen(a[0], a[2], "");
			listen(a[0], a[2], "&preferQueryMode=simple");
		} else if (a[1].equals("idle"))
			idle(c, Integer.parseInt(a[2]));
		else
			for (int i = 0; i < Integer.parseInt(a[2]); i++)
				round(c, i);
		check(c.getWarnings() == null, "warnings");
		c.close();
		System.out.println("ok");
	}
}
